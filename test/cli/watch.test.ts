/** `effect-call watch`: in a process of its own, and in this one on a terminal that is not there. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { describe, it, layer } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Stdio, Terminal } from "effect"
import { Endpoint, HandlerMap, Health, Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { makeCounter } from "../../src/cli/watch.ts"
import { tcp, temporaryDirectory, unix } from "../support/networks.ts"
import { failure, makeStdout, makeWarning, program, run, runHere, start } from "./support.ts"

const handlers = HandlerMap.set(HandlerMap.empty, "test/Echo", "echo", (args) => Effect.succeed(args))

const idle = {
  state: "Idle",
  callsInFlight: 0,
  streams: 0,
  inBackoff: false,
  isEjected: false,
  isServing: true,
  latency: undefined,
  lastFailure: undefined
} as const

/** A terminal that keeps what it is shown, and tells when that meets a condition. */
const makeTerminal = (columns: number, rows: number) => {
  const shown: Array<string> = []
  const watchers = new Set<() => void>()
  const until = (isIt: (text: string) => boolean) =>
    Effect.callback<string>((resume) => {
      const look = () => {
        const found = shown.find(isIt)
        if (found !== undefined) resume(Effect.succeed(found))
      }
      watchers.add(look)
      look()
      return Effect.sync(() => watchers.delete(look))
    })
  const terminal = Terminal.make({
    columns: Effect.succeed(columns),
    rows: Effect.succeed(rows),
    size: Effect.die("it is not asked"),
    readInput: Effect.die("it is not asked"),
    readLine: Effect.die("it is not asked"),
    display: (text) =>
      Effect.sync(() => {
        shown.push(text)
        for (const look of [...watchers]) look()
      })
  })
  const services = Layer.merge(
    Layer.succeed(Terminal.Terminal, terminal),
    Stdio.layerTest({ stdoutIsTerminal: Effect.succeed(true) })
  )
  return { shown, until, services }
}

layer(NodeServices.layer, { excludeTestServices: true, concurrent: true })("effect-call watch", (it) => {
  it.effect("prints each state as JSON until Ctrl-C", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const { endpoint } = yield* unix.serve(handlers)
      const nowhere = `${directory}/nowhere`
      const watching = yield* start("watch", `${endpoint.address},${nowhere}`, "--json")
      const line = yield* watching.line((line) => line.includes("\"Active\""))
      const { endpoints, resolverFailure } = JSON.parse(line)
      assert.equal(resolverFailure, null)
      assert.deepEqual(endpoints[0], {
        address: endpoint.address,
        state: "Active",
        callsInFlight: 0,
        streams: 0,
        inBackoff: false,
        isEjected: false,
        isServing: true,
        latency: null,
        lastFailure: null
      })
      assert.match(endpoints[1].lastFailure, /ENOENT/)
      const ended = yield* watching.interrupt
      assert.deepEqual(ended, { code: 130, stderr: "" })
    }))

  it.effect("prints one table after the other where stdout is no terminal", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      const stdout = makeStdout()
      const args = ["watch", endpoint.address, "--call", "test/Echo.echo", "--args", "a", "--every", "5ms"]
      const watching = yield* Effect.forkChild(runHere(args, stdout.layer))
      yield* stdout.line((line) => /Active +\d+ +[\d.]+ ms +\d\d+ +\d/.test(line))
      yield* stdout.line((line) => /^\d\d+ calls answered, 0 failed$/.test(line))
      yield* Fiber.interrupt(watching)
    }))

  it.effect("ends when its reader is gone", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      const piped = "set -o pipefail; \"$@\" | head -n 1"
      const watch = [process.execPath, program, "watch", endpoint.address, "--json", "--call", "test/Echo.echo"]
      const ended = yield* run("bash", ["-c", piped, "bash", ...watch, "--every", "5ms"])
      assert.equal(ended.code, 0)
      assert.equal(ended.stderr, "")
      assert.equal(ended.text.split("\n").length, 2)
    }))

  it.effect("fails with 1 where the resolver does", () =>
    Effect.gen(function*() {
      const { code, message } = yield* failure("watch", "unixdir:///dev/null", "--json")
      assert.equal(code, 1)
      assert.match(message, /^ResolverError: .*\/dev\/null/)
    }))

  it.effect("redraws a table that fits the terminal, and puts all back in the end", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* unix.serve(handlers)
      const terminal = makeTerminal(100, 10)
      const watching = yield* Effect.forkChild(
        runHere(["watch", endpoint.address, "--call", "test/Echo.echo", "--every", "5ms"], terminal.services)
      )
      yield* terminal.until((text) => /\d ms +\d/.test(text) && /^\d+ calls answered/m.test(text))
      const exit = yield* Effect.andThen(Fiber.interrupt(watching), Fiber.await(watching))
      assert.ok(Exit.hasInterrupts(exit))
      const { shown } = terminal
      assert.equal(shown[0], "\u001b[?1049h\u001b[?25l")
      for (const frame of shown.slice(1, -2)) {
        assert.ok(frame.startsWith("\u001b[H") && frame.endsWith("\u001b[J"))
        for (const line of frame.split("\u001b[K\r\n")) assert.ok(line.length <= 100 + 6, line)
      }
      assert.equal(shown.at(-2), "\u001b[?25h\u001b[?1049l")
      assert.match(shown.at(-1)!, /^unix:.*\nADDRESS.*\n.*Active.*\n\d+ calls answered.*\n$/)
    }))

  it.effect("logs nothing into a table, not even from what a resolver does when it is made", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* unix.serve(handlers)
      const { logged, services } = makeWarning(Resolver.constant(endpoint))
      const terminal = makeTerminal(100, 10)
      const watching = yield* Effect.forkChild(
        runHere(["watch", "warning://"], Layer.merge(terminal.services, services))
      )
      yield* terminal.until((text) => text.includes("Active"))
      yield* Fiber.interrupt(watching)
      assert.deepEqual(logged, [])
    }))

  it.effect("shows which endpoints do not serve, where it probes health, and the errors of its calls", () =>
    Effect.gen(function*() {
      const health = yield* Health.make()
      yield* health.set("NotServing", "test/Echo")
      const served = yield* Effect.provideService(Health.handlers, Health.Health, health)
      const { endpoint } = yield* unix.serve(served)
      const terminal = makeTerminal(0, 0)
      const watching = yield* Effect.forkChild(runHere(
        ["watch", endpoint.address, "--health", "test/Echo", "--call", "test/Echo.echo", "--every", "5ms"],
        terminal.services
      ))
      yield* terminal.until((text) =>
        text.includes("Active, not serving") && /[1-9]\d* failed, the last with Remote/.test(text)
      )
      yield* health.set("Serving", "test/Echo")
      yield* terminal.until((text) => /Active {2}/.test(text))
      yield* Fiber.interrupt(watching)
    }))
})

describe("the rates of watch", () => {
  it.effect("begin at 0 for an endpoint that has gone and come back", () =>
    Effect.gen(function*() {
      const endpoint = Endpoint.tcp("a:1")
      const { address } = endpoint
      const counter = yield* makeCounter
      counter.balancer.update([endpoint])
      const callTimes = (times: number) =>
        Effect.repeat(counter.balancer.pick({ avoid: new Set() }), { times: times - 1 })
      yield* callTimes(10)
      yield* TestClock.adjust("1 second")
      yield* counter.measure
      const state = { ...idle, address }
      assert.deepEqual(counter.made([state]).byEndpoint.get(address), { count: 10, perSecond: 10 })
      counter.made([])
      yield* callTimes(2)
      yield* TestClock.adjust("1 second")
      yield* counter.measure
      assert.deepEqual(counter.made([state]).byEndpoint.get(address), { count: 2, perSecond: 2 })
    }))
})
