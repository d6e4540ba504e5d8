/** A client whose process stands still, with the answers to its probes in the kernel. */
import { Effect } from "effect"
import { Endpoint } from "effect-call"
import * as assert from "node:assert/strict"
import type { Socket } from "node:net"
import { Worker } from "node:worker_threads"
import { dialOnread, isOnreadDialable, type OnreadDialable } from "../../src/internal/transport/onread.ts"
import { connect } from "../support/networks.ts"
import { version } from "../support/raw.ts"
import { fork, nothing, put } from "./keepAliveSupport.ts"
import { settle, until } from "./support.ts"

/**
 * A server in a thread of its own, which goes on while this one stands still. It answers whatever it gets with its
 * version, but only while `state[0]` is 1, and counts that in `state[1]`.
 */
const answeringThread = Effect.gen(function*() {
  const state = new Int32Array(new SharedArrayBuffer(8))
  const code = `
    const net = require("node:net")
    const { parentPort, workerData: { state, version } } = require("node:worker_threads")
    const server = net.createServer({ noDelay: true }, (socket) => {
      socket.on("error", () => {})
      socket.on("data", () => {
        Atomics.wait(state, 0, 0)
        socket.write(version, () => Atomics.add(state, 1, 1))
      })
    })
    server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port))`
  const answer = (does: boolean) => {
    Atomics.store(state, 0, does ? 1 : 0)
    Atomics.notify(state, 0)
  }
  const worker = yield* Effect.acquireRelease(
    Effect.sync(() => new Worker(code, { eval: true, workerData: { state, version } })),
    (worker) =>
      Effect.promise(() => {
        answer(true)
        return worker.terminate()
      })
  )
  const port = yield* Effect.callback<number>((resume) => {
    worker.once("message", (port: number) => resume(Effect.succeed(port)))
  })
  return { port, answer, answered: () => Atomics.load(state, 1) }
})

/** The socket, and what is to be done before it hands over a message that only asks. */
const beforeProbes = (socket: Socket, f: () => void): Socket => {
  const write = socket.write.bind(socket)
  socket.write = (bytes: unknown, ...rest: ReadonlyArray<unknown>) => {
    if (bytes instanceof Uint8Array && version.equals(bytes)) f()
    const wrote: boolean = Reflect.apply(write, undefined, [bytes, ...rest])
    return wrote
  }
  return socket
}

/** In milliseconds: far more than a busy machine keeps the process from running between a probe and its standstill. */
const timeout = 150

/** Stands still so many times while a server's answer to a probe comes: its connection and the call on it are kept. */
export const standsStill = Effect.fnUntraced(function*(times: number) {
  const { answer, answered, port } = yield* answeringThread
  answer(true)
  let stalls = 0
  const stall = () => {
    const before = answered()
    const begun = performance.now()
    answer(true)
    // Nothing is read meanwhile, and the server's time is over by then.
    while (performance.now() < begun + timeout + 50 || answered() === before);
    stalls++
  }
  const stallSoon = () => {
    answer(false)
    // When its time is measured already, and in the phase of the event loop after which timers come before what can be
    // read.
    setTimeout(() => setImmediate(stall), 1)
  }
  const inner = Endpoint.tcp(`127.0.0.1:${port}`)
  assert.ok(isOnreadDialable(inner))
  const endpoint: Endpoint.Endpoint & OnreadDialable<Endpoint.DialError> = {
    address: inner.address,
    dial: inner.dial,
    [dialOnread]: (onread) => Effect.map(inner[dialOnread](onread), (socket) => beforeProbes(socket, stallSoon))
  }
  const connection = yield* connect([endpoint], { keepAlive: { interval: 20, timeout } })
  const call = yield* fork(Effect.flip(connection.call(put, nothing)))
  yield* until(() => stalls === times || call.pollUnsafe() !== undefined)
  yield* settle
  assert.deepEqual([stalls, call.pollUnsafe()], [times, undefined])
}, Effect.scoped)
