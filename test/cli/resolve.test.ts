/** `effect-call resolve`. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { layer } from "@effect/vitest"
import { Effect, Fiber, Layer, SubscriptionRef } from "effect"
import { Endpoint, HandlerMap, Listener, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { temporaryDirectory } from "../support/networks.ts"
import { makeStdout, runHere } from "./support.ts"

const some = Endpoint.withAttributes(Endpoint.tcp("a:1"), { weight: 2.5, zone: "\u001b[2Jeu", priority: 1 })

/** The scheme `test`, whose endpoints are those of a ref, and a stdout that is kept. */
const makeServices = Effect.fnUntraced(function*(...endpoints: ReadonlyArray<Endpoint.Endpoint>) {
  const ref = yield* SubscriptionRef.make(endpoints)
  const stdout = makeStdout()
  const scheme = Resolver.layerSchemes({ test: () => Effect.succeed(Resolver.fromSubscriptionRef(ref)) })
  return { ref, lines: stdout.lines, services: Layer.merge(stdout.layer, scheme) }
})

const withoutTime = (line: string) => line.replace(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /, "")

layer(NodeServices.layer, { excludeTestServices: true, concurrent: true })("effect-call resolve", (it) => {
  it.effect("prints the endpoints with their attributes", () =>
    Effect.gen(function*() {
      const { lines, services } = yield* makeServices(some, Endpoint.unix("/run/b"))
      yield* runHere(["resolve", "test://"], services)
      assert.deepEqual(yield* lines(0), [
        "ADDRESS        WEIGHT  PRIORITY  ZONE",
        "tcp://a:1         2.5         1  \\u{1b}[2Jeu",
        "unix:///run/b       1         0  -"
      ])
    }))

  it.effect("prints what comes, changes and goes, with the time", () =>
    Effect.gen(function*() {
      const b = Endpoint.unix("/run/b")
      const { lines, ref, services } = yield* makeServices(some)
      yield* Effect.forkChild(runHere(["resolve", "test://", "--watch"], services))
      const first = yield* lines(1)
      assert.match(first[0]!, /^\d{4}-.*Z \+ /)
      yield* SubscriptionRef.set(ref, [some, b])
      yield* lines(2)
      yield* SubscriptionRef.set(ref, [Endpoint.withAttributes(b, { priority: 3 })])
      assert.deepEqual((yield* lines(4)).map(withoutTime), [
        "+ tcp://a:1 weight 2.5 priority 1 zone \\u{1b}[2Jeu",
        "+ unix:///run/b weight 1 priority 0",
        "- tcp://a:1 weight 2.5 priority 1 zone \\u{1b}[2Jeu",
        "~ unix:///run/b weight 1 priority 3"
      ])
    }))

  it.effect("prints one set a line as JSON", () =>
    Effect.gen(function*() {
      const stdout = makeStdout()
      yield* runHere(["resolve", "tcp://a:1,b:2", "--json", "--watch"], stdout.layer)
      const { endpoints, time } = JSON.parse(stdout.text())
      assert.match(time, /^\d{4}-/)
      assert.deepEqual(endpoints, [
        { address: "tcp://a:1", weight: 1, zone: null, priority: 0 },
        { address: "tcp://b:2", weight: 1, zone: null, priority: 0 }
      ])
    }))

  it.effect("prints why there are no endpoints, and what changes of that", () =>
    Effect.gen(function*() {
      const answers = yield* SubscriptionRef.make<Resolver.Resolution>({ endpoints: [], problem: "no \u001b[2Jcart" })
      const resolver: Resolver.Resolver = {
        isConstant: false,
        resolve: () =>
          Effect.map(SubscriptionRef.get(answers), (answer) => ({ ...answer, version: Resolver.version("1") }))
      }
      const stdout = makeStdout()
      const scheme = Resolver.layerSchemes({ test: () => Effect.succeed(resolver) })
      yield* Effect.forkChild(runHere(["resolve", "test://", "--watch"], Layer.merge(stdout.layer, scheme)))
      assert.deepEqual((yield* stdout.lines(1)).map(withoutTime), ["no endpoints: no \\u{1b}[2Jcart"])
      yield* SubscriptionRef.set(answers, { endpoints: [], problem: "still none" })
      assert.equal(withoutTime((yield* stdout.lines(2))[1]!), "no endpoints: still none")
      const json = makeStdout()
      yield* Effect.forkChild(runHere(["resolve", "test://", "--json"], Layer.merge(json.layer, scheme)))
      assert.equal(JSON.parse((yield* json.lines(1))[0]!).problem, "still none")
    }))

  it.effect("follows the servers of a directory until it is interrupted", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const stdout = makeStdout()
      const watching = yield* Effect.forkChild(
        runHere(["resolve", `unixdir://${directory}`, "--watch"], stdout.layer)
      )
      yield* stdout.line((line) => line.endsWith(`no endpoints: there is no socket in the directory "${directory}"`))
      yield* Listener.unix(`${directory}/a`, HandlerMap.empty)
      const line = yield* stdout.line((line) => !line.includes("no endpoints"))
      assert.equal(withoutTime(line), `+ unix://${directory}/a weight 1 priority 0`)
      yield* Fiber.interrupt(watching)
    }))
})
