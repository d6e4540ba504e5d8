/**
 * Duplexes of users' own that go wrong while calls are made over them: the connection is lost at most, its calls end,
 * and the next call has another one. What a Duplex throws out of the event loop would end the process.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { Connection, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import type { Duplex } from "node:stream"
import { until } from "../Connection/support.ts"
import { bytesOf, echo, handlers, hang, tcp, textOf } from "../support/networks.ts"
import { passing, throws, unreadable } from "./misbehaving.ts"

type Spoil = (duplex: Duplex) => unknown

const replace = (name: keyof Duplex | "_write"): Spoil => (duplex) => Object.assign(duplex, { [name]: throws })

const getter = (name: keyof Duplex, get: () => unknown = throws): Spoil => (duplex) =>
  Object.defineProperty(duplex, name, { get, configurable: true })

const emit = (...args: readonly [name: string, ...values: ReadonlyArray<unknown>]): Spoil => (duplex) => {
  const [name, ...values] = args
  setImmediate(() => duplex.emit(name, ...values))
}

/** What is done to a connection with calls in flight; what is said of its loss, or that it goes on. */
const later: ReadonlyArray<readonly [what: string, spoil: Spoil, lost: RegExp | "goes on" | "may go on"]> = [
  ["write throws", replace("write"), /boom/],
  ["_write throws", (duplex) => Object.assign(duplex, { _write: throws, _writev: throws }), /boom/],
  ["cork throws", replace("cork"), /boom/],
  ["uncork throws", replace("uncork"), /boom/],
  [
    "_write calls back twice",
    (duplex) => {
      const write = duplex._write.bind(duplex)
      duplex._write = (chunk, encoding, done) => {
        write(chunk, encoding, done)
        done()
        done()
      }
    },
    /Callback called multiple times/
  ],
  [
    "write says nothing",
    (duplex) => {
      const write = duplex.write.bind(duplex)
      Object.assign(duplex, {
        write: (chunk: Uint8Array) => void write(chunk)
      })
    },
    "goes on"
  ],
  ["writableLength throws", getter("writableLength"), "goes on"],
  ["writableLength is not known", getter("writableLength", () => undefined), "goes on"],
  ["writableNeedDrain throws", getter("writableNeedDrain"), "goes on"],
  ["off throws", replace("off"), "goes on"],
  ["end throws", replace("end"), "goes on"],
  // It is paused, and resumed, only where much is read in one turn, as on a machine that is busy.
  ["pause throws", replace("pause"), "may go on"],
  ["resume throws", replace("resume"), "may go on"],
  ["_read throws", (duplex) => Object.assign(duplex, { _read: throws }), /boom/],
  ["data are a text", emit("data", "boom"), /expected bytes, got "boom"/],
  ["data are an object", emit("data", { length: 3 }), /expected bytes, got/],
  ["data are nothing", emit("data"), /expected bytes, got undefined/],
  ["data are no bytes by now", emit("data", new Uint8Array(0)), "goes on"],
  ["error is an Error", emit("error", new Error("boom")), /boom/],
  ["error is a text", emit("error", "boom"), /boom/],
  ["error is nothing", emit("error"), /closed the connection/],
  ["error cannot be read", emit("error", unreadable()), /could not be read/],
  ["end comes out of order", emit("end"), /closed the connection/],
  ["close comes out of order", emit("close"), /closed the connection/],
  ["drain comes unasked", emit("drain"), "goes on"],
  [
    "close comes before its data, twice, and an error after it",
    (duplex) => {
      emit("close")(duplex)
      emit("data", bytesOf("late"))(duplex)
      emit("close")(duplex)
      emit("error", new Error("late"))(duplex)
    },
    /closed the connection/
  ],
  [
    "destroy throws, and its peer is gone",
    (duplex) => {
      replace("destroy")(duplex)
      emit("end")(duplex)
    },
    /closed the connection/
  ]
]

/** Larger than what is copied: it is written in two pieces, corked. */
const large = new Uint8Array(50_000).fill(7)

describe("a Duplex whose", () => {
  for (const [what, spoil, lost] of later) {
    it.live(`${what} costs its connection at most`, () =>
      Effect.gen(function*() {
        const { endpoint } = yield* tcp.serve(handlers)
        const duplexes: Array<Duplex> = []
        const dial = Effect.map(endpoint.dial, (below) => {
          const duplex = passing(below)
          duplexes.push(duplex)
          return duplex
        })
        const connection = yield* Connection.make(Resolver.constant({ address: "user://a", dial }), {
          backoff: { initial: 1, max: 1 }
        })
        assert.equal(textOf(yield* connection.call(echo, bytesOf("first"))), "first")
        let ended: Exit.Exit<Uint8Array, unknown> | undefined
        if (lost instanceof RegExp) {
          yield* Effect.forkScoped(
            Effect.onExit(connection.call(hang, bytesOf("")), (exit) => Effect.sync(() => void (ended = exit))),
            { startImmediately: true }
          )
        }
        spoil(duplexes[0]!)
        const during = yield* Effect.exit(connection.call(echo, large))
        if (lost === "may go on" && Exit.isFailure(during)) {
          assert.match(String(during), /CommunicationError.*boom/s)
        } else if (typeof lost === "string") {
          assert.deepEqual(Exit.isSuccess(during) ? during.value : during, large)
        } else {
          yield* until(() => ended !== undefined)
          assert.match(String(ended), /CommunicationError/)
          assert.match(String(ended), lost)
        }
        const again = connection.call(echo, large, { waitForReady: true })
        assert.deepEqual(yield* lost === "may go on" ? Effect.retry(again, { times: 1 }) : again, large)
        if (lost !== "may go on") assert.equal(duplexes.length, lost === "goes on" ? 1 : 2)
        yield* connection.close
        assert.equal((yield* connection.state).closed, true)
      }))
  }

  it.live("chunks share one buffer does not change results that callers have", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      const shared = new Uint8Array(100_000)
      const dial = Effect.map(endpoint.dial, (below) => {
        const duplex = passing(below)
        const push = duplex.push.bind(duplex)
        duplex.push = (chunk: Uint8Array | null) => {
          if (chunk === null) return push(null)
          shared.set(chunk)
          return push(shared.subarray(0, chunk.length))
        }
        return duplex
      })
      const connection = yield* Connection.make(Resolver.constant({ address: "user://a", dial }))
      const first = yield* connection.call(echo, new Uint8Array(5000).fill(1))
      yield* connection.call(echo, new Uint8Array(5000).fill(2))
      assert.deepEqual(first, new Uint8Array(5000).fill(1))
    }))

  const atOnce: ReadonlyArray<readonly [what: string, spoil: Spoil, reason: RegExp]> = [
    ["on throws", replace("on"), /boom/],
    ["write throws", replace("write"), /boom/],
    ["destroyed throws", getter("destroyed"), /boom/],
    ["readableEnded throws", getter("readableEnded"), /boom/],
    ["pause is missing", (duplex) => Object.assign(duplex, { pause: undefined }), /expected a Duplex, got/],
    ["write is a getter that throws", getter("write"), /expected a Duplex, got/],
    ["encoding is set", (duplex) => duplex.setEncoding("latin1"), /expected bytes, got/],
    ["resume throws", replace("resume"), /boom|within 300ms/],
    ["write and destroy throw", (duplex) => [replace("write")(duplex), replace("destroy")(duplex)], /boom/]
  ]
  for (const [what, spoil, reason] of atOnce) {
    it.live(`${what} from the beginning is a failed dial, and the next one succeeds`, () =>
      Effect.gen(function*() {
        const { endpoint } = yield* tcp.serve(handlers)
        let dials = 0
        const dial = Effect.map(endpoint.dial, (below) => {
          const duplex = passing(below)
          if (++dials === 1) spoil(duplex)
          return duplex
        })
        const connection = yield* Connection.make(Resolver.constant({ address: "user://a", dial }), {
          // One that ends by itself may take as long as it takes.
          dialTimeout: reason.source.includes("within 300ms") ? "300 millis" : "1 hour",
          backoff: { initial: 1, max: 1 }
        })
        const error = yield* Effect.flip(connection.call(echo, bytesOf("lost")))
        assert.ok(error._tag === "Unreachable", error._tag)
        assert.match(error.message, reason)
        assert.equal(textOf(yield* connection.call(echo, bytesOf("good"), { waitForReady: true })), "good")
        assert.equal(dials, 2)
      }))
  }

  it.live("write says that it is full and drain never comes lets calls wait for no longer than they want to", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      let duplex: Duplex | undefined
      const dial = Effect.map(endpoint.dial, (below) => duplex = passing(below))
      const connection = yield* Connection.make(Resolver.constant({ address: "user://a", dial }), {
        maxUnsentBytes: 1,
        keepAlive: { interval: "50 millis", timeout: "50 millis" },
        backoff: { initial: 1, max: 1 }
      })
      yield* connection.call(echo, bytesOf("first"))
      Object.assign(duplex!, { write: () => false })
      getter("writableNeedDrain", () => true)(duplex!)
      const late = yield* Effect.flip(connection.call(echo, large, { timeout: "10 millis" }))
      assert.equal(late._tag, "DeadlineExceeded")
      // It is given up as one that says nothing.
      assert.deepEqual(yield* connection.call(echo, large), large)
    }))
})
