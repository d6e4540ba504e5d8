import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import dns from "node:dns"
import { get } from "../../../src/internal/kubernetes/http.ts"
import { until } from "../../Connection/support.ts"
import { fullQueue } from "../../Endpoint/fullQueue.ts"
import { dialedSockets, hasIPv6 } from "../net/sockets.ts"

describe.skipIf(!hasIPv6 || process.platform !== "linux")("a request to a name with several addresses", () => {
  // The system sends the SYN that finds no room again after a second.
  it.live("goes on with a slow address when the other one refuses", () =>
    Effect.gen(function*() {
      const slow = yield* fullQueue({ host: "127.0.0.1" })
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          const original = dns.lookup
          const replacement = (_host: string, _options: unknown, callback: (error: null, found: unknown) => void) =>
            callback(null, [{ address: "127.0.0.1", family: 4 }, { address: "::1", family: 6 }])
          dns.lookup = replacement as unknown as typeof dns.lookup
          return original
        }),
        (original) => Effect.sync(() => void (dns.lookup = original))
      )
      const sockets = yield* dialedSockets
      const asking = yield* Effect.forkChild(
        Effect.scoped(get(new URL(`http://api.test:${slow.port}/`), {}, {})),
        { startImmediately: true }
      )
      const isOver = () => asking.pollUnsafe() !== undefined
      yield* until(() => isOver() || sockets.some(({ closed, errored }) => closed && errored !== null))
      yield* slow.goOn
      yield* until(() => isOver() || slow.counts().accepted === 1)
      assert.strictEqual(asking.pollUnsafe(), undefined)
      yield* Fiber.interrupt(asking)
      yield* until(() => slow.counts().ended === 1)
    }))
})
