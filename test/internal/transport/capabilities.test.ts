import { describe, it } from "@effect/vitest"
import { Effect, Scope } from "effect"
import * as assert from "node:assert/strict"
import { Socket } from "node:net"
import { Duplex, duplexPair } from "node:stream"
import {
  type Capabilities,
  capabilitiesOf,
  describe as describeConnection,
  describeOver
} from "../../../src/internal/transport/capabilities.ts"
import { handlers, memory, mtlsOverMemory, mtlsOverTcp, type Network, tcp, unix } from "../../support/networks.ts"

/** What both ends of a connection of a network can do. */
const ends = Effect.fnUntraced(function*(network: Network) {
  const { endpoint, listener } = yield* network.listen(handlers)
  const both = Effect.all([endpoint.dial, listener.accept], { concurrency: 2 })
  const [client, { connection }] = yield* Effect.orDie(both)
  yield* Effect.addFinalizer(() => Effect.sync(() => void connection.destroy()))
  connection.on("error", () => {})
  return [capabilitiesOf(client), capabilitiesOf(connection)] as const
})

describe("what a connection can do", () => {
  const common = ({ mayVanish, ownsChunks, writesByReference }: Capabilities) => ({
    mayVanish,
    ownsChunks,
    writesByReference
  })

  it.live.each<readonly [Network, ReturnType<typeof common>]>([
    [tcp, { mayVanish: true, ownsChunks: true, writesByReference: true }],
    [unix, { mayVanish: true, ownsChunks: true, writesByReference: true }],
    [mtlsOverTcp, { mayVanish: true, ownsChunks: true, writesByReference: true }],
    [memory, { mayVanish: false, ownsChunks: false, writesByReference: false }],
    [mtlsOverMemory, { mayVanish: false, ownsChunks: true, writesByReference: true }]
  ])("is known at both ends", ([network, expected]) =>
    Effect.gen(function*() {
      const [client, server] = yield* ends(network)
      assert.deepEqual([common(client), common(server)], [expected, expected])
    }).pipe(Effect.scoped))

  it.live("is to be refused without a word as a client over TLS, and nowhere else", () =>
    Effect.gen(function*() {
      const found: Array<ReadonlyArray<boolean>> = []
      for (const network of [tcp, memory, mtlsOverTcp, mtlsOverMemory]) {
        found.push((yield* ends(network)).map(({ refusesSilently }) => refusesSilently))
      }
      assert.deepEqual(found, [[false, false], [false, false], [true, false], [true, false]])
    }).pipe(Effect.scoped))

  it.live("includes the other end of a TCP connection, also below TLS, and also when that has closed", () =>
    Effect.gen(function*() {
      for (const network of [tcp, mtlsOverTcp]) {
        const scope = yield* Scope.make()
        const [client, server] = yield* Scope.provide(ends(network), scope)
        yield* Scope.close(scope, yield* Effect.exit(Effect.void))
        assert.deepEqual([client.remote?.address, server.remote?.address], ["127.0.0.1", "127.0.0.1"])
        assert.ok(server.remote !== undefined && server.remote.port > 0)
      }
      for (const network of [unix, memory, mtlsOverMemory]) {
        const [client, server] = yield* ends(network)
        assert.deepEqual([client.remote, server.remote], [undefined, undefined])
      }
    }).pipe(Effect.scoped))

  it("is little for a Duplex of a user's own, which may keep what is written", () => {
    const [duplex] = duplexPair()
    const { kernelKeepAlive, receiver, showsTaken, systemQueue, ...rest } = capabilitiesOf(duplex)
    assert.deepEqual(rest, {
      hasHandle: false,
      mayVanish: true,
      ownsChunks: false,
      refusesSilently: false,
      remote: undefined,
      writesByReference: false
    })
    assert.deepEqual([kernelKeepAlive, receiver, showsTaken, systemQueue()], [undefined, undefined, false, 0])
  })

  it("does not include to write by reference where the write of a socket is a user's own", () => {
    const socket = new Socket()
    assert.equal(capabilitiesOf(socket).writesByReference, true)
    socket.write = () => true
    assert.equal(capabilitiesOf(socket).writesByReference, false)
  })

  it("is worked out also for a socket whose getters and methods throw", () => {
    const hostile = (): never => {
      throw new Error("hostile")
    }
    const socket = Object.defineProperty(new Socket(), "remoteAddress", { get: hostile })
    socket.setKeepAlive = hostile
    const { kernelKeepAlive, remote } = capabilitiesOf(socket)
    assert.equal(remote, undefined)
    kernelKeepAlive?.(1000, 1000)
  })

  it("includes kernel keepalive, with times in whole seconds and ten probes", () => {
    const told: Array<ReadonlyArray<unknown>> = []
    const socket = new Socket()
    socket.setKeepAlive = (...given: ReadonlyArray<unknown>) => {
      told.push(given)
      return socket
    }
    const { kernelKeepAlive } = capabilitiesOf(socket)
    kernelKeepAlive?.(1, 1)
    kernelKeepAlive?.(15_400, 30_000)
    kernelKeepAlive?.(1e12, 1e12)
    assert.deepEqual(told, [[true, 1000, 1000, 10], [true, 15_000, 3000, 10], [true, 32_767_000, 32_767_000, 10]])
  })

  it("is what its maker has said of it, each thing the last time", () => {
    const duplex = new Duplex()
    const seen = () => {
      const { mayVanish, refusesSilently } = capabilitiesOf(duplex)
      return [mayVanish, refusesSilently]
    }
    describeConnection(duplex, { mayVanish: false })
    assert.deepEqual(seen(), [false, false])
    describeConnection(duplex, { refusesSilently: true })
    assert.deepEqual(seen(), [false, true])
    describeConnection(duplex, { mayVanish: true })
    assert.deepEqual(seen(), [true, true])
  })

  it("is taken over from the connection below where that is what counts", () => {
    const [below, above] = [new Duplex(), new Duplex()]
    describeConnection(below, { mayVanish: false, refusesSilently: true })
    const { mayVanish, refusesSilently } = capabilitiesOf(describeOver(above, below))
    assert.deepEqual([mayVanish, refusesSilently], [false, false])
  })
})
