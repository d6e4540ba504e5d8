/**
 * What a caller passes in, what it gets back, and whose bytes those are.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Option } from "effect"
import { Balancer, type CallError, Connection, Deadline, HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import * as vm from "node:vm"
import { makeLog } from "./support/log.ts"
import {
  bytesOf,
  component,
  connect,
  eachNetwork,
  eachWay,
  echo,
  handlers,
  memory,
  mtlsOverTcp,
  someWays,
  tcp,
  textOf
} from "./support/networks.ts"
import { messagesOf, rawClient, request, version } from "./support/raw.ts"

/** Bytes that differ from those of every other seed, throughout. */
const pattern = (length: number, seed = 0): Uint8Array => {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >>> 8) + seed * 17) & 0xff
  return bytes
}

const assertBytes = (actual: Uint8Array, expected: Uint8Array, what = "bytes") => {
  assert.equal(actual.length, expected.length, `${what}: length`)
  assert.ok(Buffer.compare(actual, expected) === 0, `${what}: content`)
}

const tooLarge = (error: CallError.CallError, maybeExecuted = false) => {
  assert.ok(error._tag === "CommunicationError", error.message)
  assert.equal(error.reason._tag, "TooLarge")
  assert.equal(error.maybeExecuted, maybeExecuted)
  return error.message
}

describe("echo", () => {
  eachWay((way) => {
    for (const size of [0, 1, 65_536, 1_048_576]) {
      it.live(`${size} bytes come back as they went`, () =>
        Effect.gen(function*() {
          const connection = yield* way.open(handlers)
          const args = pattern(size)
          const result = yield* connection.call(echo, args.slice())
          assert.ok(result instanceof Uint8Array)
          assertBytes(result, args)
        }).pipe(Effect.scoped))
    }

    it.live("1 000 calls at once each get their own answer", () =>
      Effect.gen(function*() {
        const connection = yield* way.open(handlers)
        const args = Array.from({ length: 1000 }, (_, i) => bytesOf(`call ${i}`))
        const results = yield* Effect.forEach(args, (args) => connection.call(echo, args), { concurrency: "unbounded" })
        assert.deepEqual(results.map(textOf), args.map(textOf))
      }).pipe(Effect.scoped))

    it.live("answers come in the order in which the handlers end", () =>
      Effect.gen(function*() {
        const count = 16
        const turns = yield* Effect.all(Array.from({ length: count }, () => Deferred.make<void>()))
        const arrived = yield* Effect.all(Array.from({ length: count }, () => Deferred.make<void>()))
        const connection = yield* way.open(
          HandlerMap.set(HandlerMap.empty, component, "wait", ([n]) =>
            Effect.gen(function*() {
              yield* Deferred.succeed(arrived[n!]!, undefined)
              yield* Deferred.await(turns[n!]!)
              return Uint8Array.of(n!)
            }))
        )
        const calls = yield* Effect.forEach(turns, (_, i) =>
          Effect.forkChild(connection.call(MethodKey.make(component, "wait"), Uint8Array.of(i))))
        yield* Effect.forEach(arrived, Deferred.await)
        // 7 is prime to 16: every call once, in an order of its own.
        for (let i = 0; i < count; i++) {
          const n = (i * 7 + 3) % count
          yield* Deferred.succeed(turns[n]!, undefined)
          assert.deepEqual(yield* Fiber.join(calls[n]!), Uint8Array.of(n))
        }
      }).pipe(Effect.scoped))
  })
})

describe("sizes", () => {
  eachNetwork((network) => {
    it.live("the largest arguments and the largest result that maxMessageSize allows go through, and not one byte more", () =>
      Effect.gen(function*() {
        let executed = 0
        const maxMessageSize = 70_000
        const { endpoint } = yield* network.serve(
          HandlerMap.set(handlers, component, "make", (args) => {
            executed++
            return Effect.succeed(pattern(Number(textOf(args))))
          }),
          { maxMessageSize }
        )
        const connection = yield* connect([endpoint], { maxMessageSize })
        const make = (size: number) => connection.call(MethodKey.make(component, "make"), bytesOf(String(size)))

        const largest = pattern(maxMessageSize - 49)
        assertBytes(yield* connection.call(echo, largest), largest)
        const over = new Uint8Array(maxMessageSize - 48)
        const message = tooLarge(yield* Effect.flip(connection.call(MethodKey.make(component, "make"), over)))
        assert.equal(message, "the arguments of test/Echo.make are 69952 bytes, expected at most 69951")
        assert.equal(executed, 0)

        assertBytes(yield* make(maxMessageSize), pattern(maxMessageSize))
        assert.equal(
          tooLarge(yield* Effect.flip(make(maxMessageSize + 1)), true),
          "the result of test/Echo.make is 70001 bytes, expected at most 70000"
        )
        // Neither has cost the connection.
        assert.equal(textOf(yield* connection.call(echo, bytesOf("still here"))), "still here")
        assert.deepEqual((yield* connection.state).endpoints.map(({ lastFailure }) => lastFailure), [undefined])
      }).pipe(Effect.scoped))
  })

  it.live("by default the largest arguments are 100 MiB less the request's header", () =>
    Effect.gen(function*() {
      // That so large arguments are sent and answered is one of the deep tests.
      const connection = yield* connect([(yield* tcp.serve(handlers)).endpoint])
      assert.equal(
        tooLarge(yield* Effect.flip(connection.call(echo, new Uint8Array(104_857_600 - 48)))),
        "the arguments of test/Echo.echo are 104857552 bytes, expected at most 104857551"
      )
    }).pipe(Effect.scoped))
})

describe("more than fits", () => {
  eachNetwork((network) => {
    it.live("into a connection at once waits, in either direction, and all of it arrives", () =>
      Effect.gen(function*() {
        const { endpoint } = yield* network.serve(handlers)
        const connection = yield* connect([endpoint])
        const sent = Array.from({ length: 24 }, (_, i) => pattern(200_000, i))
        const results = yield* Effect.forEach(sent, (args) => connection.call(echo, args), { concurrency: "unbounded" })
        sent.forEach((args, i) => assertBytes(results[i]!, args, `result ${i}`))
      }).pipe(Effect.scoped))
  })
})

describe("the bytes that a caller gets are its own", () => {
  eachWay((way) => {
    it.live("results and arguments do not change while other calls go on and change theirs", () =>
      Effect.gen(function*() {
        const keep = MethodKey.make(component, "keep")
        const received = new Map<number, Uint8Array>()
        const connection = yield* way.open(
          HandlerMap.set(HandlerMap.empty, component, "keep", (args) => {
            received.set(new DataView(args.buffer, args.byteOffset).getUint16(0), args)
            return Effect.succeed(args)
          })
        )
        // All kinds of sizes: in V8's heap, pooled, of their own, several chunks of a socket.
        const sizes = [2, 15, 33, 64, 65, 500, 4096, 4097, 9000, 16_383, 16_384, 70_000]
        const sent = Array.from({ length: 480 }, (_, i) => {
          const bytes = pattern(sizes[i % sizes.length]!, i)
          new DataView(bytes.buffer).setUint16(0, i)
          return bytes
        })
        const results = yield* Effect.forEach(
          sent,
          (expected, i) =>
            Effect.map(connection.call(keep, expected.slice()), (result) => i % 5 === 0 ? result.fill(0xee) : result),
          {
            concurrency: 40
          }
        )
        sent.forEach((expected, i) => {
          assertBytes(received.get(i)!, expected, `arguments ${i}`)
          if (i % 5 > 0) assertBytes(results[i]!, expected, `result ${i}`)
        })
      }).pipe(Effect.scoped))
  }, someWays)

  it.live("results that share their memory with others' cannot be transferred to another thread, and other results can", () =>
    Effect.gen(function*() {
      const connection = yield* connect([(yield* tcp.serve(handlers)).endpoint])
      const sizes = [10, 64, 65, 66, 1000, 4096, 4097, 9000]
      const sent = sizes.flatMap((size) => [0, 1, 2].map((i) => pattern(size, i)))
      const results = yield* Effect.forEach(sent, (args) => connection.call(echo, args), { concurrency: "unbounded" })
      for (const [i, result] of results.entries()) {
        if (i % 3 > 0) continue
        const transfer = () => structuredClone(result, { transfer: [result.buffer as ArrayBuffer] })
        if (result.length > 64 && result.length <= 4096) assert.throws(transfer, { name: "DataCloneError" })
        else assertBytes(transfer(), sent[i]!, `the moved result ${i}`)
      }
      for (const [i, result] of results.entries()) {
        if (result.length > 0) assertBytes(result, sent[i]!, `result ${i}`)
        else assert.equal(i % 3, 0, `result ${i} is gone`)
      }
    }).pipe(Effect.scoped))

  eachNetwork((network) => {
    it.live("a handler that transfers its arguments away fails by itself: the next request in the segment is answered", () => {
      const log = makeLog()
      return Effect.gen(function*() {
        const { port1, port2 } = new MessageChannel()
        yield* Effect.addFinalizer(() => Effect.sync(() => [port1, port2].forEach((port) => port.close())))
        const { endpoint } = yield* network.serve(handlers.pipe(
          HandlerMap.set(
            component,
            "clone",
            (args) => Effect.sync(() => structuredClone(args, { transfer: [args.buffer as ArrayBuffer] }))
          ),
          HandlerMap.set(component, "post", (args) =>
            Effect.sync(() => {
              port1.postMessage(args, [args.buffer as ArrayBuffer])
              return args
            }))
        ))
        const client = yield* rawClient(endpoint)
        const args = pattern(500, 1)
        const keys = [MethodKey.make(component, "clone"), MethodKey.make(component, "post"), echo]
        client.write(Buffer.concat([version, ...keys.map((key, i) => request(i + 1, key, args))]))
        const [, ...answers] = messagesOf(yield* client.until((bytes) => messagesOf(bytes).length === 4))
        assert.deepEqual(answers.map(({ id, type }) => [id, type]), [[1, 3], [2, 3], [3, 2]])
        assertBytes(answers[2]!.payload, args, "the echo")
        assert.deepEqual(log.lines.map(({ annotations }) => annotations.method), ["clone", "post"])
        for (const { cause } of log.lines) assert.match(cause, /DataCloneError/)
        assertBytes(yield* (yield* connect([endpoint])).call(echo, args), args, "the next client's echo")
      }).pipe(Effect.scoped, Effect.provide(log.layer))
    })
  }, [tcp, mtlsOverTcp])
})

describe("the bytes that a caller passes", () => {
  eachWay((way) => {
    for (const size of [10, 16_383]) {
      it.live(`may be changed as soon as the call has suspended, below writeFlattenLimit: ${size} bytes`, () =>
        Effect.gen(function*() {
          const connection = yield* way.open(handlers)
          const args = pattern(size)
          const calling = yield* Effect.forkChild(connection.call(echo, args), { startImmediately: true })
          args.fill(0xee)
          assertBytes(yield* Fiber.join(calling), pattern(size))
        }).pipe(Effect.scoped))
    }

    it.live("are not changed, with any size and in any part of a buffer", () =>
      Effect.gen(function*() {
        const connection = yield* way.open(handlers)
        for (const size of [1, 16_383, 16_384, 200_000]) {
          const buffer = pattern(size + 20)
          assertBytes(
            yield* connection.call(echo, buffer.subarray(10, size + 10)),
            pattern(size + 20).subarray(10, size + 10)
          )
          assertBytes(buffer, pattern(size + 20))
        }
      }).pipe(Effect.scoped))
  })

  eachNetwork((network) => {
    it.live("the results of a handler that uses one buffer again and again are each caller's own", () =>
      Effect.gen(function*() {
        const buffer = new Uint8Array(1000)
        const { endpoint } = yield* network.serve(
          HandlerMap.set(HandlerMap.empty, component, "fill", ([n]) => Effect.succeed(buffer.fill(n!)))
        )
        const connection = yield* connect([endpoint])
        const results = yield* Effect.forEach(
          Array.from({ length: 200 }, (_, i) => i),
          (i) => connection.call(MethodKey.make(component, "fill"), Uint8Array.of(i)),
          { concurrency: "unbounded" }
        )
        results.forEach((result, i) => assertBytes(result, new Uint8Array(1000).fill(i), `result ${i}`))
      }).pipe(Effect.scoped))
  })
})

describe("a call that was given what the types do not allow", () => {
  for (
    const [what, key, args, message] of [
      ["a text", echo, "text", "the arguments of test/Echo.echo are a Uint8Array, got string"],
      ["an ArrayBuffer", echo, new ArrayBuffer(8), "the arguments of test/Echo.echo are a Uint8Array, got object"],
      ["numbers", echo, [1, 2], "the arguments of test/Echo.echo are a Uint8Array, got object"],
      ["nothing", echo, undefined, "the arguments of test/Echo.echo are a Uint8Array, got undefined"],
      [
        "an object for a key",
        { component, method: "echo" },
        new Uint8Array(),
        "the key of a call is a MethodKey, got object"
      ],
      ["a text for a key", "test/Echo.echo", new Uint8Array(), "the key of a call is a MethodKey, got string"]
    ] as const
  ) {
    it.effect(`(${what}) dies with a clear message, sends nothing, and does not disturb other calls`, () =>
      Effect.gen(function*() {
        const { endpoint } = yield* memory.serve(handlers)
        const connection = yield* connect([endpoint])
        const cast = (what: unknown) => what as never
        for (let i = 0; i < 2; i++) {
          const [before, defect, after] = yield* Effect.all([
            connection.call(echo, bytesOf("before")),
            Effect.catchDefect(connection.call(cast(key), cast(args)), Effect.succeed),
            connection.call(echo, bytesOf("after"))
          ], { concurrency: "unbounded" })
          assert.ok(defect instanceof TypeError, String(defect))
          assert.equal(defect.message, message)
          assert.deepEqual([textOf(before), textOf(after)], ["before", "after"])
        }
        assert.deepEqual((yield* connection.state).endpoints.map(({ callsInFlight }) => callsInFlight), [0])
      }).pipe(Effect.scoped))
  }

  it.effect("but bytes of another realm are allowed, as arguments and as a result", () =>
    Effect.gen(function*() {
      const foreign: Uint8Array = vm.runInNewContext("new Uint8Array([1, 2, 3])")
      assert.ok(!(foreign instanceof Uint8Array))
      const { endpoint } = yield* memory.serve(
        HandlerMap.set(handlers, component, "foreign", () => Effect.succeed(foreign))
      )
      const connection = yield* connect([endpoint])
      for (const method of ["echo", "foreign"]) {
        assertBytes(yield* connection.call(MethodKey.make(component, method), foreign), Uint8Array.of(1, 2, 3))
      }
    }).pipe(Effect.scoped))
})

describe("withOptions", () => {
  /** A connection whose balancer notes the shard keys of its calls. */
  const noting = Effect.gen(function*() {
    const keys: Array<bigint | undefined> = []
    const remaining = HandlerMap.set(
      HandlerMap.empty,
      component,
      "remaining",
      () => Effect.map(Deadline.remaining, (left) => bytesOf(Option.isSome(left) ? "limited" : "unlimited"))
    )
    const { endpoint } = yield* memory.serve(remaining)
    const connection = yield* connect([endpoint], {
      balancer: Balancer.make((endpoints, { shardKey }) => {
        keys.push(shardKey)
        return Effect.succeed(endpoints[0]!)
      })
    })
    const call = (options?: Connection.CallOptions) =>
      Effect.map(connection.call(MethodKey.make(component, "remaining"), new Uint8Array(), options), textOf)
    return { keys, call }
  })

  it.effect("holds for every call inside, data-first and data-last, and for none outside", () =>
    Effect.gen(function*() {
      const { call, keys } = yield* noting
      yield* Effect.andThen(call(), call()).pipe(Connection.withOptions({ shardKey: 1n }))
      yield* Connection.withOptions(call(), { shardKey: 2n })
      yield* call()
      assert.deepEqual(keys, [1n, 1n, 2n, undefined])
    }).pipe(Effect.scoped))

  it.effect("a call's own options come first, then those of the inner region, then those of the outer one", () =>
    Effect.gen(function*() {
      const { call, keys } = yield* noting
      yield* Effect.gen(function*() {
        yield* call()
        yield* Effect.gen(function*() {
          yield* call()
          yield* call({ shardKey: 3n })
          yield* call()
        }).pipe(Connection.withOptions({ shardKey: 2n }))
        yield* call()
      }).pipe(Connection.withOptions({ shardKey: 1n }))
      assert.deepEqual(keys, [1n, 2n, 3n, 2n, 1n])
    }).pipe(Effect.scoped))

  it.effect("options are merged: what the inner region does not set, the outer one sets", () =>
    Effect.gen(function*() {
      const { call, keys } = yield* noting
      const limited = yield* call({ shardKey: 5n }).pipe(
        Connection.withOptions({ waitForReady: true }),
        Connection.withOptions({ timeout: "1 second", shardKey: 1n })
      )
      assert.equal(limited, "limited")
      assert.equal(yield* call(), "unlimited")
      assert.deepEqual(keys, [5n, undefined])
    }).pipe(Effect.scoped))

  it.effect("an option that is undefined keeps the value of the region", () =>
    Effect.gen(function*() {
      const { call, keys } = yield* noting
      const limited = yield* call({ shardKey: undefined, timeout: undefined }).pipe(
        Connection.withOptions({ shardKey: undefined, timeout: undefined }),
        Connection.withOptions({ shardKey: 1n, timeout: "1 second" })
      )
      assert.equal(limited, "limited")
      assert.deepEqual(keys, [1n])
    }).pipe(Effect.scoped))
})

describe("make", () => {
  for (
    const [options, message] of [
      [
        { maxMessageSize: 100 },
        "option maxMessageSize: expected a whole number of bytes from 1024 to 104857600, got 100"
      ],
      [
        { writeFlattenLimit: -1 },
        "option writeFlattenLimit: expected a whole number of bytes from 0 to 104857600, got -1"
      ],
      [{ dialTimeout: -5 }, "option dialTimeout: expected a duration of zero or more, got -5"],
      [{ backoff: { factor: 0.5 } }, "option backoff.factor: expected a number of 1 or more, got 0.5"],
      [{ backoff: { jitter: 1 } }, "option backoff.jitter: expected a number from 0 to less than 1, got 1"]
    ] as ReadonlyArray<[Connection.ClientOptions, string]>
  ) {
    it.effect(`refuses options that make no sense: ${JSON.stringify(options)}`, () =>
      Effect.gen(function*() {
        const { endpoint } = yield* memory.listen(HandlerMap.empty)
        const defect = yield* connect([endpoint], options).pipe(
          Effect.as(undefined),
          Effect.catchDefect((defect) => Effect.succeed(defect))
        )
        assert.ok(defect instanceof RangeError, String(defect))
        assert.equal(defect.message, message)
      }).pipe(Effect.scoped))
  }
})
