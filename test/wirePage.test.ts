/**
 * The examples on the page of the wire: each is the bytes of a vector, or what our own client writes, and is taken
 * apart as the header says.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Schema, Stream } from "effect"
import { Component, Connection } from "effect-call"
import { Rpc, RpcClient, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import vectors from "./data/wire-vectors.json" with { type: "json" }
import { connect, tcp } from "./support/networks.ts"
import { markdownPages, root } from "./support/pages/page.ts"
import { rawClient, rawServer, version, versionWith } from "./support/raw.ts"

const Greeter = Component.make(
  "example/Greeter",
  RpcGroup.make(
    Rpc.make("Greet", { payload: { name: Schema.String }, success: Schema.String }),
    Rpc.make("Count", { payload: { to: Schema.Int }, success: Schema.Int, stream: true })
  )
)

const name = "src/internal/protocol/README.md"
const page = markdownPages(root).find((page) => page.name === name) ?? assert.fail(`there is no ${name}`)

/** The bytes of a line: pairs of digits, and `16×00` for sixteen times the same byte. What they mean follows. */
const hexOf = (line: string): string => {
  const [, bytes = ""] = /^((?:(?:\d+×[0-9a-f]{2}|(?:[0-9a-f]{2})+)(?: |$))+)/.exec(line) ??
    assert.fail(`no bytes: ${line}`)
  return bytes.trim().split(" ").map((word) => {
    const [, times, byte = word] = /^(\d+)×(..)$/.exec(word) ?? []
    return byte.repeat(Number(times ?? 1))
  }).join("")
}

const examples = page.fences.filter(({ language }) => language === "text").map(({ code: [title = "", ...lines] }) => ({
  title,
  lines,
  parts: lines.map(hexOf),
  hex: lines.map(hexOf).join("")
}))

const hexNamed = (name: string): string =>
  examples.find(({ title }) => title === name)?.hex ?? assert.fail(`there is no example ${name}`)

/** The message of a vector, by the title of an example. */
const expected = (title: string): string | undefined => {
  const [vector = "", side] = title.split(", ")
  if (side === undefined) return vectors.streams.messages.find((message) => message.name === vector)?.hex
  const exchange = vectors.exchanges.find((exchange) => exchange.name === vector)
  const hex = side === "client" ? exchange?.clientHex : exchange?.serverHex
  return hex?.slice(version.length * 2)
}

describe("the page of the wire", () => {
  for (const { hex, lines, parts, title } of examples) {
    it(`has the bytes of ${title}`, () => {
      // Those of typed methods are compared with what our ends write, below.
      if (!title.startsWith("typed-")) assert.equal(hex, expected(title))
    })

    it(`takes ${title} apart as the header says`, () => {
      assert.deepEqual(parts.slice(0, 3).map(({ length }) => length / 2), [8, 1, 7])
      const length = Buffer.from(hex, "hex").readUIntLE(9, 6)
      assert.equal(hex.length / 2, 16 + length)
      assert.equal(/ length (\d+)$/.exec(lines[2] ?? "")?.[1], String(length))
    })
  }

  it("has an example of each type of message", () => {
    assert.deepEqual(
      new Set(examples.map(({ parts }) => parts[1])),
      // A cancel is empty, as an end is.
      new Set(["00", "01", "02", "03", "05", "06", "07", "08", "09"])
    )
  })

  /** What a client writes behind its version, to a server that has answered with `said`. */
  const written = Effect.fnUntraced(function*<A, E>(
    length: number,
    said: Uint8Array,
    use: (client: Component.Client<typeof Greeter>) => Effect.Effect<A, E>
  ) {
    const all = yield* Deferred.make<Buffer>()
    const endpoint = yield* rawServer((raw) => {
      let isAnswered = false
      raw.socket.on("data", () => {
        if (!isAnswered) raw.write(said)
        isAnswered = true
        // Our client's first message is longer than the reference's by its flags.
        const request = raw.received().subarray(version.length + 4)
        if (request.length >= length) Deferred.doneUnsafe(all, Exit.succeed(request.subarray(0, length)))
      })
    })
    const client = yield* Effect.provideServiceEffect(
      Component.client(Greeter, { format: "json", disableTracing: true }),
      Connection.Connection,
      connect([endpoint])
    )
    yield* Effect.forkScoped(use(client))
    return (yield* Deferred.await(all)).toString("hex")
  })

  it.live("has the bytes that a typed client writes", () =>
    Effect.gen(function*() {
      const hex = hexNamed("typed-json")
      const call = RpcClient.withHeaders({ user: "Ada" })
      assert.equal(yield* written(hex.length / 2, version, ({ Greet }) => call(Greet({ name: "Ada" }))), hex)
    }).pipe(Effect.scoped))

  it.live("has the bytes that a typed client opens a stream with", () =>
    Effect.gen(function*() {
      const hex = hexNamed("typed-open")
      const said = versionWith(8)
      assert.equal(yield* written(hex.length / 2, said, ({ Count }) => Stream.runDrain(Count({ to: 3 }))), hex)
    }).pipe(Effect.scoped))

  it.live("has the bytes that a typed server answers a stream with", () =>
    Effect.gen(function*() {
      const handlers = yield* Component.handlers(
        Greeter,
        Greeter.group.toLayer({
          Greet: ({ name }) => Effect.succeed(name),
          Count: ({ to }) => Stream.range(1, to)
        })
      )
      const { endpoint } = yield* tcp.serve(handlers)
      const raw = yield* rawClient(endpoint)
      raw.write(Buffer.concat([versionWith(8), Buffer.from(hexNamed("typed-open"), "hex")]))
      const done = Buffer.from(hexNamed("typed-done"), "hex")
      const received = yield* raw.until((bytes) => bytes.subarray(-done.length).equals(done))
      // Before them it says its version, and what its client may send.
      assert.ok(received.toString("hex").endsWith(hexNamed("typed-items") + hexNamed("typed-done")))
    }).pipe(Effect.scoped))
})
