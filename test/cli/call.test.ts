/** `effect-call call`, as users run it. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { layer } from "@effect/vitest"
import { ConfigProvider, Effect, FileSystem, PlatformError, Sink, Stdio } from "effect"
import { CallError, Component, Endpoint, HandlerMap, MethodKey, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { join } from "node:path"
import { Failure } from "../../src/cli/failure.ts"
import { certificates, mtlsOverTcp, tcp, temporaryDirectory, unix } from "../support/networks.ts"
import { message, messagesOf, rawServer, version } from "../support/raw.ts"
import { Stock, StockHandlers } from "./contract.ts"
import { awkward, contract, effectCall, effectCallWith, failure, makeStdout, makeWarning, runHere } from "./support.ts"

const failing = CallError.RemoteError.fromChain([
  { message: "no \u001b[31mfunds\nat all", identity: "(app:no-funds)" },
  { message: "empty", identity: "(app:empty)" }
])

const handlers = HandlerMap.empty.pipe(
  HandlerMap.set("test/Echo", "echo", (args) => Effect.succeed(args)),
  HandlerMap.set("test/Echo", "fail", () => Effect.fail(failing)),
  HandlerMap.set("test/Echo", "never", () => Effect.never)
)

const module = ["--module", contract]
const deadAddress = "tcp://127.0.0.1:1"

// Side by side: some wait for processes of their own.
layer(NodeServices.layer, { excludeTestServices: true, concurrent: true })("effect-call call", (it) => {
  it.effect("sends a text as bytes and writes the answer unchanged", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      const ended = yield* effectCall("call", endpoint.address, "test/Echo.echo", "héllo")
      assert.deepEqual({ ...ended, stdout: undefined }, { code: 0, stdout: undefined, text: "héllo", stderr: "" })
    }))

  it.effect("takes hex from stdin and answers in hex", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* unix.serve(handlers)
      const stdio = makeStdout("00 ff\n0A\n")
      yield* runHere(["call", endpoint.address, "test/Echo.echo", "-", "--hex"], stdio.layer)
      assert.equal(stdio.text(), "00ff0a\n")
    }))

  it.effect("takes any bytes from stdin", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* unix.serve(handlers)
      const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => i * 7)
      const { code, stdout } = yield* effectCallWith(bytes, "call", endpoint.address, "test/Echo.echo", "-")
      assert.equal(code, 0)
      assert.deepEqual(new Uint8Array(stdout), bytes)
    }))

  it.effect("calls over mTLS, with Base64 from a file", () =>
    Effect.gen(function*() {
      const { listener } = yield* mtlsOverTcp.serve(handlers)
      const { ca, client } = yield* certificates
      const fs = yield* FileSystem.FileSystem
      const directory = yield* temporaryDirectory
      const file = (name: string, text: string) =>
        Effect.as(fs.writeFileString(join(directory, name), text), join(directory, name))
      const address = listener.address.replace("mtls://", "")
      const args = `@${yield* file("args", "aGk=\n")}`
      const certificate = [
        ...["--ca", yield* file("ca.pem", ca), "--cert", yield* file("cert.pem", client.cert)],
        ...["--key", yield* file("key.pem", client.key), "--servername", "localhost"]
      ]
      const stdout = makeStdout()
      yield* runHere(["call", address, "test/Echo.echo", args, "--base64", ...certificate], stdout.layer)
      assert.equal(stdout.text(), "aGk=\n")
    }))

  it.effect("calls a peer that knows nothing of this package", () =>
    Effect.gen(function*() {
      const key = MethodKey.make("github.com/a/b/Cart", "Get")
      // As a Go peer does: its version, and an answer to what is a request for its method.
      const endpoint = yield* rawServer((raw) => {
        raw.write(version)
        raw.socket.on("data", () => {
          const request = messagesOf(raw.received()).find(({ type }) => type === 1)
          if (request === undefined) return
          const isIt = request.payload.subarray(0, 16).equals(key.bytes)
          raw.write(message(request.id, 2, Buffer.concat([Buffer.from(`${isIt} `), request.payload.subarray(49)])))
        })
      })
      const stdout = makeStdout()
      yield* runHere(["call", endpoint.address, "github.com/a/b/Cart.Get", "id"], stdout.layer)
      assert.equal(stdout.text(), "true id")
    }))

  it.effect("goes to the server of a shard key", () =>
    Effect.gen(function*() {
      const serve = (name: string) =>
        tcp.serve(HandlerMap.set(HandlerMap.empty, "test/Who", "who", () => Effect.succeed(Buffer.from(name))))
      const addresses = [yield* serve("a"), yield* serve("b"), yield* serve("c")].map(({ endpoint }) =>
        endpoint.address
      )
      const stdout = makeStdout()
      yield* runHere(["call", addresses.join(","), "test/Who.who", "--shard-key", "4"], stdout.layer)
      assert.equal(stdout.text(), "b")
    }))

  it.effect("tells in one line why a call failed, with no control characters of the peer's", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      const ended = yield* effectCall("call", endpoint.address, "test/Echo.fail")
      assert.equal(ended.code, 1)
      assert.equal(ended.text, "")
      assert.equal(
        ended.stderr,
        "RemoteError: no \\u{1b}[31mfunds\\nat all [(app:no-funds)], caused by: empty [(app:empty)]\n"
      )
    }))

  it.effect("fails with DeadlineExceeded after its timeout", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      const { code, message } = yield* failure("call", endpoint.address, "test/Echo.never", "--timeout", "50ms")
      assert.equal(code, 1)
      assert.match(message, /^DeadlineExceeded: .*test\/Echo\.never/)
    }))

  it.effect("names each endpoint that could not be reached, and logs no warnings besides", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const { logged, services } = makeWarning(
        Resolver.constant(Endpoint.unix(`${directory}/a`), Endpoint.unix(`${directory}/b`))
      )
      const failed = yield* Effect.flip(runHere(["call", "warning://", "test/Echo.echo"], services))
      assert.ok(failed instanceof Failure)
      assert.equal(failed.exitCode, 1)
      assert.match(failed.message, /^Unreachable: .*ENOENT.*ENOENT/)
      for (const name of ["a", "b"]) assert.ok(failed.message.includes(`unix://${directory}/${name}: `))
      assert.deepEqual(logged, [])
    }))

  it.effect("says why there are no endpoints, and why a resolver cannot be made", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "none")
      assert.deepEqual(yield* failure("call", `unixdir://${path}`, "a.b"), {
        code: 1,
        message: `Unreachable: no endpoints: the directory "${path}" does not exist`
      })
      const environment = ConfigProvider.layer(ConfigProvider.fromEnvRecord({ HOME: path, KUBECONFIG: path }))
      const failed = yield* Effect.flip(runHere(["call", "k8s://shop/cart", "a.b"], environment))
      assert.ok(failed instanceof Failure)
      assert.equal(failed.exitCode, 1)
      assert.equal(failed.message, `ResolverError: there is no kubeconfig file ${path}`)
    }))

  it.effect("calls a typed method with JSON", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(yield* Component.handlers(Stock, StockHandlers))
      const json = "{\"item\":\"tea\",\"until\":\"2030-01-01T00:00:00.000Z\",\"count\":3}"
      const ended = yield* effectCallWith(json, "call", endpoint.address, "test/Stock.Reserve", "-", ...module)
      assert.equal(ended.stderr, "")
      assert.equal(ended.text, "{\"until\":\"2030-01-01T00:00:00.000Z\",\"left\":\"7\"}\n")
    }))

  it.effect("needs no arguments where a method has none, and no component's name where an export is chosen", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(yield* Component.handlers(Stock, StockHandlers))
      const stdout = makeStdout()
      yield* runHere(["call", endpoint.address, "Close", ...module, "--export", "Stock"], stdout.layer)
      assert.equal(stdout.text(), "null\n")
    }))

  it.effect("shows a method's own error as JSON after its tag", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(yield* Component.handlers(Stock, StockHandlers))
      const json = "{\"item\":\"gold\",\"until\":\"2030-01-01T00:00:00.000Z\"}"
      assert.deepEqual(yield* failure("call", endpoint.address, "test/Stock.Reserve", json, ...module), {
        code: 1,
        message: "NoSuchItem: {\"_tag\":\"NoSuchItem\",\"item\":\"gold\"}"
      })
    }))

  it.effect("ends though the module has left a timer behind", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* unix.serve(yield* Component.handlers(Stock, StockHandlers))
      const ended = yield* effectCall("call", endpoint.address, "test/Stock.Close", "--module", awkward)
      assert.deepEqual([ended.code, ended.text, ended.stderr], [0, "null\n", ""])
    }))

  it.effect("shows a bug on stderr", () =>
    Effect.gen(function*() {
      const ended = yield* effectCall("call", deadAddress, "test/Awkward.Throw", "\"a\"", "--module", awkward)
      assert.deepEqual([ended.code, ended.text], [1, ""])
      assert.match(ended.stderr, /Error: no such luck\n +at /)
    }))

  it.effect("says that stdout cannot be written to", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* unix.serve(handlers)
      const cause = Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" })
      const error = PlatformError.systemError({ _tag: "Unknown", module: "Stdio", method: "stdout", cause })
      const stdout = Stdio.layerTest({ stdout: () => Sink.fail(error) })
      const failed = yield* Effect.flip(runHere(["call", endpoint.address, "test/Echo.echo", "a"], stdout))
      assert.ok(failed instanceof Failure)
      assert.equal(failed.message, "cannot write to stdout: ENOSPC: no space left on device")
    }))

  it.effect("ends with 2, and its help on stderr, where a flag is unknown", () =>
    Effect.gen(function*() {
      const ended = yield* effectCall("call", deadAddress, "a.b", "--tiemout", "1s")
      assert.equal(ended.code, 2)
      assert.equal(ended.text, "")
      assert.match(ended.stderr, /^DESCRIPTION/)
      assert.match(ended.stderr, /Unrecognized flag: --tiemout/)
    }))
})
