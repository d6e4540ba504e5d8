/**
 * The methods that the replicas of the `replicas` example serve: their keys, for callers, and the schema of an answer.
 */
import { Schema } from "effect"
import { MethodKey } from "effect-call"

export const component = "example/Worker"

/** Answers with the replica's name. */
export const name = MethodKey.make(component, "name")

/** Works until it is interrupted. */
export const work = MethodKey.make(component, "work")

/** Answers with a {@link Jobs}: how many calls of `work` are running, and how many were interrupted. */
export const jobs = MethodKey.make(component, "jobs")

export const Jobs = Schema.fromJsonString(Schema.Struct({ running: Schema.Int, stopped: Schema.Int }))

export const nothing = new Uint8Array()
export const toBytes = (text: string) => new TextEncoder().encode(text)
export const fromBytes = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
