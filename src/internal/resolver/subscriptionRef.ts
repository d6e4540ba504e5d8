/**
 * A resolver whose endpoints are the value of a `SubscriptionRef`. It does not know who sets the ref.
 */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as PubSub from "effect/PubSub"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Endpoint } from "../../Endpoint.ts"
import type { Resolution, Resolver } from "./model.ts"
import { type Version, versions } from "./version.ts"

export const fromSubscriptionRef = (ref: SubscriptionRef.SubscriptionRef<ReadonlyArray<Endpoint>>): Resolver => {
  const nextVersion = versions("ref")
  const snapshot = (endpoints: ReadonlyArray<Endpoint>) => ({ endpoints, version: nextVersion() })
  let latest = snapshot(SubscriptionRef.getUnsafe(ref))

  // A ref does not count its changes. So each value that is not the last one seen is a change.
  const current = (): Resolution => {
    const endpoints = SubscriptionRef.getUnsafe(ref)
    if (endpoints !== latest.endpoints) latest = snapshot(endpoints)
    return latest
  }

  const newerThan = Effect.fnUntraced(function*(seen: Version) {
    // Subscribe first, then read the value. A ref sets a value before it publishes it, so no change is missed.
    const subscription = yield* PubSub.subscribe(ref.pubsub)
    while (true) {
      const resolution = current()
      if (!Equal.equals(resolution.version, seen)) return resolution
      yield* PubSub.take(subscription)
    }
  }, Effect.scoped)

  return {
    isConstant: false,
    resolve: (version) =>
      Effect.suspend(() => {
        const resolution = current()
        return version !== undefined && Equal.equals(resolution.version, version)
          ? newerThan(version)
          : Effect.succeed(resolution)
      })
  }
}
