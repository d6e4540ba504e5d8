/** What the tests of the in-memory network share: both ends of its connections, and what becomes of them. */
import { Effect } from "effect"
import type { Listener } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import type { Duplex } from "node:stream"

export const onNetwork = Effect.provide(TestNetwork.layer)

/** Both ends of a new connection to `name`. */
export const connect = Effect.fnUntraced(function*<R>(name: string, listener: Listener.Listener<R>) {
  const client = yield* (yield* TestNetwork.endpoint(name)).dial
  const { connection: server } = yield* listener.accept
  return { client, server }
})

/** What arrives, and what becomes of the socket. */
export const observe = (socket: Duplex) => {
  const state = { text: "", events: [] as Array<string> }
  let changed = () => {}
  const note = (event: string) => {
    state.events.push(event)
    changed()
  }
  socket.on("data", (chunk: Buffer) => {
    state.text += chunk.toString()
    changed()
  })
  socket.on("end", () => note("end"))
  socket.on("error", (error: NodeJS.ErrnoException) => note(error.code ?? error.message))
  socket.on("close", () => note("close"))
  const until = (done: () => boolean) =>
    Effect.callback<void>((resume) => {
      changed = () => {
        if (done()) resume(Effect.void)
      }
      changed()
    })
  return {
    state,
    received: (text: string) =>
      until(() => state.text.length >= text.length).pipe(Effect.map(() => assert.equal(state.text, text))),
    closed: until(() => state.events.includes("close"))
  }
}

/** Lets everything that can arrive arrive: bytes take a turn of the event loop each way. */
export const settle = Effect.callback<void>((resume) => {
  let left = 20
  const turn = () => {
    if (--left === 0) resume(Effect.void)
    else setImmediate(turn)
  }
  setImmediate(turn)
})
