/**
 * The call options that the running fiber is under, as the client and `Connection.withOptions` share them.
 */
import * as Context from "effect/Context"
import type { CallOptions } from "../Connection.ts"

/** The call options of a region, set with `Connection.withOptions`. */
export const CurrentOptions: Context.Reference<CallOptions | undefined> = Context.Reference<CallOptions | undefined>(
  "effect-call/Connection/CurrentOptions",
  { defaultValue: () => undefined }
)
