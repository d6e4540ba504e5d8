import { NodeFileSystem } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Equal, Exit, Fiber, FileSystem, Hash, type Layer, SubscriptionRef } from "effect"
import { Endpoint, Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import { join } from "node:path"

const endpoint = (port: number): Endpoint.Endpoint => Endpoint.tcp(`127.0.0.1:${port}`)
const e1 = endpoint(7001)
const e2 = endpoint(7002)
const addresses = (resolution: Resolver.Resolution) => resolution.endpoints.map(({ address }) => address)

describe("Version", () => {
  it("equals another with the same text, and no other", () => {
    assert.isTrue(Equal.equals(Resolver.version("7"), Resolver.version("7")))
    assert.strictEqual(Hash.hash(Resolver.version("7")), Hash.hash(Resolver.version("7")))
    assert.isFalse(Equal.equals(Resolver.version("7"), Resolver.version("8")))
    assert.isFalse(Equal.equals(Resolver.version("7"), { opaque: "7" }))
    assert.strictEqual(String(Resolver.version("7")), "Version(7)")
  })

  it("has one for what does not exist, with the text that Go gives it", () => {
    assert.strictEqual(Resolver.missing.opaque, "__tombstone__")
    assert.isTrue(Equal.equals(Resolver.missing, Resolver.version("__tombstone__")))
  })
})

describe("constant", () => {
  it.effect("always has the given endpoints, in their order, and no version", () =>
    Effect.gen(function*() {
      const resolver = Resolver.constant(e2, e1)
      assert.isTrue(resolver.isConstant)
      assert.deepStrictEqual(yield* resolver.resolve(), { endpoints: [e2, e1] })
      assert.deepStrictEqual(yield* resolver.resolve(Resolver.missing), { endpoints: [e2, e1] })
      assert.deepStrictEqual(yield* Resolver.constant().resolve(), { endpoints: [] })
    }))
})

describe("file", () => {
  const inTemporaryDirectory = Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const path = join(yield* fs.makeTempDirectoryScoped(), "ready")
    return { fs, path, resolver: yield* Resolver.file(path, e1, e2) }
  })

  it.live("has no endpoints until the file exists, notices it, and keeps them", () =>
    Effect.gen(function*() {
      const { fs, path, resolver } = yield* inTemporaryDirectory
      assert.isFalse(resolver.isConstant)
      const absent = yield* resolver.resolve()
      assert.deepStrictEqual(absent, {
        endpoints: [],
        version: Resolver.missing,
        problem: `the file "${path}" does not exist yet`
      })

      const next = yield* Effect.forkChild(resolver.resolve(absent.version), { startImmediately: true })
      yield* fs.writeFileString(path, "")
      const present = yield* Fiber.join(next)
      assert.deepStrictEqual(addresses(present), [e1.address, e2.address])
      assert.isFalse(Equal.equals(present.version, Resolver.missing))

      yield* fs.remove(path)
      assert.strictEqual(yield* resolver.resolve(), present)
      assert.strictEqual(yield* resolver.resolve(Resolver.missing), present)
    }).pipe(Effect.provide(NodeFileSystem.layer)))

  it.effect("answers a version that it does not know at once, also while there is no file", () =>
    Effect.gen(function*() {
      const { resolver } = yield* inTemporaryDirectory
      assert.deepStrictEqual((yield* resolver.resolve(Resolver.version("of another"))).endpoints, [])
    }).pipe(Effect.provide(NodeFileSystem.layer)))

  it.effect("has its endpoints at once where the file is there already", () =>
    Effect.gen(function*() {
      const { fs, path, resolver } = yield* inTemporaryDirectory
      yield* fs.writeFileString(path, "")
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), [e1.address, e2.address])
    }).pipe(Effect.provide(NodeFileSystem.layer)))

  it.effect("looks four times a second while it waits, and not at all when nothing can change any more", () =>
    Effect.gen(function*() {
      let looks = 0
      let exists = false
      const fs = FileSystem.makeNoop({
        exists: () =>
          Effect.sync(() => {
            looks++
            return exists
          })
      })
      const resolver = yield* Effect.provideService(Resolver.file("/run/ready", e1), FileSystem.FileSystem, fs)
      const waiting = yield* Effect.forkChild(resolver.resolve(Resolver.missing), { startImmediately: true })
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(looks, 9)
      assert.isUndefined(waiting.pollUnsafe())
      exists = true
      yield* TestClock.adjust("250 millis")
      const { version } = yield* Fiber.join(waiting)

      const forever = yield* Effect.forkChild(resolver.resolve(version), { startImmediately: true })
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(forever.pollUnsafe())
      assert.strictEqual(looks, 10)
      yield* Fiber.interrupt(forever)
    }))

  it.effect("stops looking when the wait is interrupted", () =>
    Effect.gen(function*() {
      let looks = 0
      const fs = FileSystem.makeNoop({ exists: () => Effect.sync(() => looks++ < 0) })
      const resolver = yield* Effect.provideService(Resolver.file("/run/ready", e1), FileSystem.FileSystem, fs)
      const waiting = yield* Effect.forkChild(resolver.resolve(Resolver.missing), { startImmediately: true })
      yield* Fiber.interrupt(waiting)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(looks, 1)
    }))

  it.effect("fails with the path where it cannot tell whether the file exists", () =>
    Effect.gen(function*() {
      const { fs, path } = yield* inTemporaryDirectory
      yield* fs.writeFileString(path, "")
      const below = join(path, "ready")
      const resolver = yield* Resolver.file(below, e1)
      for (const version of [undefined, Resolver.missing]) {
        const error = yield* Effect.flip(resolver.resolve(version))
        assert.strictEqual(error._tag, "ResolverError")
        assert.include(error.message, `"${below}"`)
        assert.instanceOf(error.cause, Error)
      }
    }).pipe(Effect.provide(NodeFileSystem.layer)))

  it.effect("refuses paths that no file can have", () =>
    Effect.gen(function*() {
      const empty = yield* Effect.flip((yield* Resolver.file("", e1)).resolve())
      assert.strictEqual(empty.message, "the path of the file to wait for is empty")
      const zero = yield* Effect.flip((yield* Resolver.file("a\0b", e1)).resolve())
      assert.strictEqual(zero._tag, "ResolverError")
    }).pipe(Effect.provide(NodeFileSystem.layer)))
})

describe("fromSubscriptionRef", () => {
  const make = Effect.fnUntraced(function*(...endpoints: ReadonlyArray<Endpoint.Endpoint>) {
    const ref = yield* SubscriptionRef.make(endpoints)
    return { ref, resolver: Resolver.fromSubscriptionRef(ref) }
  })

  it.effect("has the ref's endpoints at once without a version, the same version until they change", () =>
    Effect.gen(function*() {
      const { ref, resolver } = yield* make(e1)
      assert.isFalse(resolver.isConstant)
      const first = yield* resolver.resolve()
      assert.deepStrictEqual(addresses(first), [e1.address])
      assert.isTrue(Equal.equals((yield* resolver.resolve()).version, first.version))
      yield* SubscriptionRef.set(ref, [e1, e2])
      const second = yield* resolver.resolve()
      assert.deepStrictEqual(addresses(second), [e1.address, e2.address])
      assert.isFalse(Equal.equals(second.version, first.version))
    }))

  it.effect("waits for a change with the current version", () =>
    Effect.gen(function*() {
      const { ref, resolver } = yield* make()
      const { version } = yield* resolver.resolve()
      const next = yield* Effect.forkChild(resolver.resolve(version), { startImmediately: true })
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(next.pollUnsafe())
      yield* SubscriptionRef.set(ref, [e2])
      assert.deepStrictEqual(addresses(yield* Fiber.join(next)), [e2.address])
    }))

  it.effect("does not miss a change between two calls, and sees several as one", () =>
    Effect.gen(function*() {
      const { ref, resolver } = yield* make()
      const { version } = yield* resolver.resolve()
      yield* SubscriptionRef.set(ref, [e1])
      yield* SubscriptionRef.set(ref, [e2])
      const next = yield* resolver.resolve(version)
      assert.deepStrictEqual(addresses(next), [e2.address])
    }))

  it.effect("gives a new version to endpoints that come back", () =>
    Effect.gen(function*() {
      const one: ReadonlyArray<Endpoint.Endpoint> = [e1]
      const ref = yield* SubscriptionRef.make(one)
      const resolver = Resolver.fromSubscriptionRef(ref)
      const first = yield* resolver.resolve()
      yield* SubscriptionRef.set(ref, [])
      const second = yield* resolver.resolve(first.version)
      yield* SubscriptionRef.set(ref, one)
      const third = yield* resolver.resolve(second.version)
      assert.deepStrictEqual(addresses(third), [e1.address])
      assert.isFalse(Equal.equals(third.version, first.version))
      assert.isFalse(Equal.equals(third.version, second.version))
    }))

  it.effect("answers a version that it does not know at once", () =>
    Effect.gen(function*() {
      const { resolver } = yield* make(e1)
      const other = yield* make(e2)
      const foreign = yield* other.resolver.resolve()
      for (const version of [Resolver.missing, Resolver.version("x"), foreign.version!]) {
        assert.deepStrictEqual(addresses(yield* resolver.resolve(version)), [e1.address])
      }
    }))

  it.effect("leaves nothing behind in the ref when a wait ends or is interrupted", () =>
    Effect.gen(function*() {
      const { ref, resolver } = yield* make(e1)
      const { version } = yield* resolver.resolve()
      for (let i = 0; i < 10; i++) {
        yield* Fiber.interrupt(yield* Effect.forkChild(resolver.resolve(version), { startImmediately: true }))
      }
      const ended = yield* Effect.forkChild(resolver.resolve(version), { startImmediately: true })
      assert.strictEqual(ref.pubsub.subscribers.size, 1)
      yield* SubscriptionRef.set(ref, [e2])
      yield* Fiber.join(ended)
      assert.strictEqual(ref.pubsub.subscribers.size, 0)
    }))

  it.effect("brings any number of watchers to the last of many changes, each version once", () =>
    Effect.gen(function*() {
      const { ref, resolver } = yield* make()
      const last = endpoint(60_000)
      const watch = Effect.gen(function*() {
        const versions = new Set<string>()
        let resolution = yield* resolver.resolve()
        while (resolution.endpoints[0]?.address !== last.address) {
          versions.add(resolution.version!.opaque)
          const next = yield* resolver.resolve(resolution.version)
          assert.isFalse(versions.has(next.version!.opaque))
          resolution = next
        }
        return versions.size
      })
      const watchers = yield* Effect.forEach(Array.from({ length: 8 }), () => Effect.forkChild(watch))
      for (let i = 0; i < 499; i++) {
        yield* SubscriptionRef.set(ref, i % 7 === 0 ? [] : [endpoint(10_000 + i)])
        if (i % 3 === 0) yield* Effect.yieldNow
      }
      yield* SubscriptionRef.set(ref, [last])
      const seen = yield* Effect.forEach(watchers, Fiber.join)
      for (const versions of seen) assert.isAbove(versions, 10)
    }))
})

describe("layer", () => {
  const resolved = Effect.flatMap(Resolver.Resolver, (resolver) => resolver.resolve())

  it.effect("provides a resolver", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(addresses(yield* resolved), [e1.address])
    }).pipe(Effect.provide(Resolver.layer(Resolver.constant(e1)))))

  it.effect("provides any object of the interface", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(addresses(yield* resolved), [e2.address])
    }).pipe(Effect.provideService(Resolver.Resolver, {
      isConstant: false,
      resolve: () => Effect.succeed({ endpoints: [e2], version: Resolver.version("1") })
    })))

  it.effect("provides what an effect makes, and releases what it acquired", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const made = Effect.acquireRelease(
        Effect.sync(() => {
          log.push("acquired")
          return Resolver.constant(e1)
        }),
        () => Effect.sync(() => log.push("released"))
      )
      const layer: Layer.Layer<Resolver.Resolver> = Resolver.layer(made)
      assert.deepStrictEqual(addresses(yield* Effect.provide(resolved, layer)), [e1.address])
      assert.deepStrictEqual(log, ["acquired", "released"])
    }))

  it.effect("fails as the effect does", () =>
    Effect.gen(function*() {
      const error = new Resolver.ResolverError({ message: "no such name", cause: new Error("ENOTFOUND") })
      const exit = yield* Effect.exit(Effect.provide(resolved, Resolver.layer(Effect.fail(error))))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasFails(exit.cause))
      const flipped = yield* Effect.flip(Effect.provide(resolved, Resolver.layer(Effect.fail(error))))
      assert.strictEqual(flipped, error)
    }))
})
