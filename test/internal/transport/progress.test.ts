/**
 * Whether a peer takes what its socket was given, over the system's sockets: what they say themselves comes late.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import type { Duplex } from "node:stream"
import { capabilitiesOf } from "../../../src/internal/transport/capabilities.ts"
import { Progress } from "../../../src/internal/transport/progress.ts"
import { Writer } from "../../../src/internal/transport/writer.ts"
import { until } from "../../Connection/support.ts"
import { handlers, mtlsOverTcp, mtlsOverUnix, type Network, tcp, unix } from "../../support/networks.ts"
import { Slow, turn } from "./support.ts"

/** More than the system takes on the way from one end to the other. */
const onTheWay = 20_000_000

const watched = (duplex: Duplex) => {
  const capabilities = capabilitiesOf(duplex)
  const owner = { onLeave: () => true, onRoom: () => {}, onFlush: () => {}, onBlocked: () => {} }
  const writer = new Writer(duplex, capabilities, owner, 1_048_576, { received: 0, sent: 0 }, (error) => {
    throw error
  })
  return { writer, progress: new Progress(capabilities, writer) }
}

describe("progress", () => {
  const networks: ReadonlyArray<Network> = [tcp, unix, mtlsOverTcp, mtlsOverUnix]
  for (const network of networks) {
    it.live(`is seen where a peer has taken a part of one write, and not where it has taken nothing, over ${network.name}`, () =>
      Effect.gen(function*() {
        const { endpoint, listener } = yield* network.listen(handlers)
        const both = Effect.all([endpoint.dial, listener.accept], { concurrency: 2 })
        const [client, { connection }] = yield* Effect.orDie(both)
        yield* Effect.addFinalizer(() => Effect.sync(() => void connection.destroy()))
        connection.on("error", () => {})
        let received = 0
        client.on("data", (chunk: Buffer) => void (received += chunk.length))
        client.pause()
        const { progress, writer } = watched(connection)
        connection.write(new Uint8Array(2 * onTheWay))
        // What the system takes at first is seen as well: now nothing moves.
        let quiet = 0
        while (quiet < 100) {
          quiet = progress.look() ? 0 : quiet + 1
          yield* turn
        }
        client.resume()
        yield* until(() => received >= onTheWay)
        client.pause()
        assert.deepEqual([writer.drains, writer.unsentBytes], [0, 2 * onTheWay])
        assert.equal(progress.look(), true)
        client.resume()
        yield* until(() => received === 2 * onTheWay)
        yield* until(() => progress.look())
      }).pipe(Effect.scoped))
  }

  it.effect("of a duplex of a user's own is what it has taken of several writes, and not what it is given", () =>
    Effect.gen(function*() {
      const duplex = new Slow(true)
      const { progress } = watched(duplex)
      assert.equal(progress.look(), true)
      duplex.write(new Uint8Array(100_000))
      duplex.write(new Uint8Array(100_000))
      assert.equal(progress.look(), false)
      duplex.done?.()
      yield* turn
      assert.equal(progress.look(), true)
      assert.equal(progress.look(), false)
    }))
})
