/**
 * What the programs of this folder call, and how they find each other.
 */
import { Effect, Schema } from "effect"
import { Component, MethodKey } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

export class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

const calls = Schema.Struct({ running: Schema.Int, interrupted: Schema.Int })

/** The typed methods. */
export const Runtimes = Component.make(
  "test/Runtimes",
  RpcGroup.make(
    Rpc.make("Greet", { payload: { name: Schema.String }, success: Schema.String, error: Refused }),
    // It answers after `millis`, and counts calls that were interrupted before.
    Rpc.make("Wait", { payload: { millis: Schema.Finite }, success: Schema.String }),
    // The calls of `Wait`.
    Rpc.make("Waiting", { success: calls }),
    // The common name of the client's certificate. Empty if it has none.
    Rpc.make("Who", { success: Schema.String })
  )
)

/** A method of bytes: it answers with its arguments. */
export const echo = MethodKey.make("test/Bytes", "echo")

export const transports = ["tcp", "unix", "mtls"] as const

const Identity = Schema.Struct({ cert: Schema.String, key: Schema.String })

/** What `run.ts` gives to both programs, in the environment variable `RUNTIMES`. */
export const Given = Schema.fromJsonString(Schema.Struct({
  ca: Schema.String,
  /** A revocation list of `ca` that has the client `revoked`, and one that has the server. */
  crl: Schema.String,
  crlOfServer: Schema.String,
  server: Identity,
  client: Identity,
  revoked: Identity,
  /** A client's certificate of another authority, which is not trusted, and that authority. */
  stranger: Identity,
  otherCa: Schema.String,
  /** A path for the server's Unix socket. */
  socket: Schema.String,
  /** Where the server listens, for the client. */
  addresses: Schema.Record(Schema.Literals(transports), Schema.String).pipe(Schema.optionalKey)
}))

export const given = Effect.suspend(() => Schema.decodeUnknownEffect(Given)(process.env["RUNTIMES"]))

/** A line that the server prints when it listens. `crl` says why it goes without the revocation list, if it does. */
export const Listening = Schema.fromJsonString(Schema.Struct({
  addresses: Schema.Record(Schema.Literals(transports), Schema.String),
  crl: Schema.String
}))

/** A line that the client prints for each check. */
export const Checked = Schema.fromJsonString(Schema.Struct({
  check: Schema.String,
  transport: Schema.String,
  /** Why it failed. Empty if it did not. */
  problem: Schema.String
}))
