/**
 * The texts that say why a value cannot be encoded or decoded. It knows the errors of schemas. It does not know the
 * wire.
 */
import * as Cause from "effect/Cause"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import type { MethodKey } from "../../MethodKey.ts"
import { methodName } from "../protocol/methodName.ts"
import { attempt, causeOf, isInstance, textOf } from "../userError.ts"
import type { Format } from "./payload.ts"

/** A schema of a method cannot be written in a format. */
export class Unsendable extends TypeError {
  readonly part: string
  readonly problem: string

  constructor(part: string, format: Format, cause: unknown) {
    const problem = `cannot be sent in ${format}: ${problemOf(cause)}`
    super(`its ${part} ${problem}`, { cause })
    this.part = part
    this.problem = problem
  }
}

/** The texts of issues are cut here: a path may contain keys of any length. */
const maxProblemLength = 1000

/** Whether an error comes from a schema. The error that `make` throws has the issue as its cause. */
const isOfSchema = (error: unknown): boolean =>
  attempt(() => Schema.isSchemaError(error) || issueOf(error) !== undefined, false)

const issueOf = (error: unknown): SchemaIssue.Issue | undefined => {
  const cause = causeOf(error)
  return attempt(() => SchemaIssue.isIssue(cause) ? cause : undefined, undefined)
}

/** The problem with a value, in one line: what was expected, and at which path. */
export const problemOf = (error: unknown): string => {
  const issue = issueOf(error)
  const known = attempt(() => issue === undefined ? error : new Schema.SchemaError(issue), error)
  const text = textOf(known)
  const line = text.replaceAll("\n  at", " at").replaceAll("\n", "; ")
  return line.length <= maxProblemLength ? line : `${line.slice(0, maxProblemLength)}…`
}

/** {@link problemOf} for the error or the defect in a cause. */
export const problemOfCause = (cause: Cause.Cause<unknown>): string => problemOf(errorOfCause(cause))

/**
 * Why bytes cannot be decoded, if the reason is the bytes, or a contract without this format. Undefined if a
 * transformation of the schema has died: that is a bug on this side.
 */
export const refusalOf = (cause: Cause.Cause<unknown>): string | undefined => {
  const error = errorOfCause(cause)
  const isFailure = Option.isSome(Cause.findErrorOption(cause))
  return isFailure || isInstance(error, Unsendable) || isTooDeep(error) ? problemOf(error) : undefined
}

/** The problem with its most likely reason. */
export const misfit = (problem: string): string => `${problem} (client and server may have different contracts)`

/** Whether a value is nested deeper than the stack allows. */
const isTooDeep = (error: unknown): boolean => isInstance(error, RangeError) && /call stack/.test(textOf(error))

const errorOfCause = (cause: Cause.Cause<unknown>): unknown =>
  Option.getOrElse(Cause.findErrorOption(cause), () => Cause.squash(cause))

/** The defect of a value that cannot be encoded. */
export const unencodable = (
  what: "payload" | "result" | "failure" | "item",
  key: MethodKey,
  cause: unknown
): TypeError => {
  const error = attempt(() => Cause.isCause(cause) ? errorOfCause(cause) : cause, cause)
  const text = `${what === "item" ? "an" : "the"} ${what} of ${methodName(key)} cannot be encoded: ${problemOf(error)}`
  // The text says everything that a schema has found. For any other error, the stack helps to find the bug.
  return isOfSchema(error) ? new TypeError(text) : new TypeError(text, { cause: error })
}
