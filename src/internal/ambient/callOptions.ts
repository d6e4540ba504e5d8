/**
 * The call options that the running fiber is under, as the client and `Connection.withOptions` share them.
 */
import * as Context from "effect/Context"
import type { CallOptions } from "../../Connection.ts"

/** The call options of a region, set with `Connection.withOptions`. */
export const CurrentOptions: Context.Reference<CallOptions | undefined> = Context.Reference<CallOptions | undefined>(
  "effect-call/Connection/CurrentOptions",
  { defaultValue: () => undefined }
)

/** The options of `inner` and, where it says nothing, those of `outer`. */
export const mergeOptions = (outer: CallOptions, inner: CallOptions): CallOptions => ({
  shardKey: inner.shardKey ?? outer.shardKey,
  balancer: inner.balancer ?? outer.balancer,
  timeout: inner.timeout ?? outer.timeout,
  waitForReady: inner.waitForReady ?? outer.waitForReady,
  retry: inner.retry ?? outer.retry
})
