/**
 * Reads the arguments and formats the answers of calls with bytes. It does not know how calls are made.
 */
import * as Argument from "effect/cli/Argument"
import type * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Hex from "effect/encoding/Hex"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import { type Failure, unusable } from "./failure.ts"
import { invalid } from "./options.ts"

const described = "text, @file or - for stdin (default: none)"

export const argumentsOf = Argument.String("args").pipe(
  Argument.withDescription(`The arguments: ${described}`),
  Argument.optional
)

export const argumentsFlag = Flag.String("args").pipe(
  Flag.withDescription(`The arguments of --call: ${described}`),
  Flag.optional
)

/** How bytes are written as text. */
export interface Format {
  readonly hex: boolean
  readonly base64: boolean
}

export const hex = Flag.Boolean("hex").pipe(
  Flag.withDescription("Arguments and answers are in hex"),
  Flag.withDefault(false)
)
export const base64 = Flag.Boolean("base64").pipe(
  Flag.withDescription("Arguments and answers are in Base64"),
  Flag.withDefault(false)
)

export const validateFormat = ({ base64, hex }: Format): Effect.Effect<void, CliError.CliError> =>
  hex && base64 ? invalid("--hex and --base64 exclude each other") : Effect.void

const stdin = Stdio.Stdio.use((stdio) => Stream.runCollect(stdio.stdin)).pipe(
  Effect.map((chunks) => new Uint8Array(Buffer.concat(chunks))),
  Effect.mapError((error) => unusable(`cannot read the arguments from stdin: ${error.message}`))
)

const file = (path: string) =>
  FileSystem.FileSystem.use((fs) => fs.readFile(path)).pipe(
    Effect.mapError((error) => unusable(`cannot read the arguments from ${path}: ${error.message}`))
  )

/** The bytes of an argument: its text, a file's (`@file`), or those of stdin (`-`). */
export const read = (
  argument: Option.Option<string>
): Effect.Effect<Uint8Array, Failure, FileSystem.FileSystem | Stdio.Stdio> => {
  if (Option.isNone(argument)) return Effect.succeed(new Uint8Array())
  if (argument.value === "-") return stdin
  return argument.value.startsWith("@")
    ? file(argument.value.slice(1))
    : Effect.succeed(new TextEncoder().encode(argument.value))
}

/**
 * Decodes the arguments. With --hex or --base64, a file and stdin are in that form, too, in any number of lines.
 */
export const decode = (given: Uint8Array, { base64, hex }: Format): Effect.Effect<Uint8Array, Failure> => {
  if (!hex && !base64) return Effect.succeed(given)
  const text = new TextDecoder().decode(given).replaceAll(/\s/g, "")
  const decoded = hex ? Hex.decode(text) : Base64.decode(text)
  return Result.isSuccess(decoded)
    ? Effect.succeed(decoded.success)
    : Effect.fail(unusable(`the arguments are not ${hex ? "hex" : "Base64"}: ${decoded.failure.message}`))
}

/** An answer as it is written to stdout: its bytes, or one line of hex or Base64. */
export const encode = (bytes: Uint8Array, { base64, hex }: Format): Uint8Array | string => {
  if (hex) return `${Hex.encode(bytes)}\n`
  return base64 ? `${Base64.encode(bytes)}\n` : bytes
}
