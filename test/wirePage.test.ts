/**
 * The examples on the page of the wire: each is the bytes of a vector, or what our own client writes, and is taken
 * apart as the header says.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Schema } from "effect"
import { Component, Connection } from "effect-call"
import { Rpc, RpcClient, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import vectors from "./data/wire-vectors.json" with { type: "json" }
import { connect } from "./support/networks.ts"
import { markdownPages, root } from "./support/pages/page.ts"
import { rawServer, version } from "./support/raw.ts"

const Greeter = Component.make(
  "example/Greeter",
  RpcGroup.make(Rpc.make("Greet", { payload: { name: Schema.String }, success: Schema.String }))
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
      if (title !== "typed-json") assert.equal(hex, expected(title))
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
      [...new Set(examples.map(({ parts }) => parts[1] ?? ""))].toSorted((a, b) => a.localeCompare(b)),
      // A cancel is empty, as an end is.
      ["00", "01", "02", "03", "05", "06", "07", "08", "09"]
    )
  })

  it.live("has the bytes that a typed client writes", () =>
    Effect.gen(function*() {
      const example = examples.find(({ title }) => title === "typed-json") ?? assert.fail("there is no such example")
      const all = yield* Deferred.make<Buffer>()
      const endpoint = yield* rawServer((raw) => {
        let isAnswered = false
        raw.socket.on("data", () => {
          if (!isAnswered) raw.write(version)
          isAnswered = true
          // Our client's first message is longer than the reference's by its flags.
          const request = raw.received().subarray(version.length + 4)
          if (request.length >= example.hex.length / 2) Deferred.doneUnsafe(all, Exit.succeed(request))
        })
      })
      const client = Effect.provideServiceEffect(
        Component.client(Greeter, { format: "json", disableTracing: true }),
        Connection.Connection,
        connect([endpoint])
      )
      const { Greet } = yield* client
      yield* Effect.forkScoped(RpcClient.withHeaders(Greet({ name: "Ada" }), { user: "Ada" }))
      assert.equal((yield* Deferred.await(all)).toString("hex"), example.hex)
    }).pipe(Effect.scoped))
})
