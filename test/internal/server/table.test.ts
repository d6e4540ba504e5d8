import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import { routesOf } from "../../../src/internal/server/table.ts"

const get = MethodKey.make("test/Store", "get")
const put = MethodKey.make("test/Store", "put")

const handlers = HandlerMap.empty.pipe(
  HandlerMap.set("test/Store", "get", (args) => Effect.succeed(args)),
  HandlerMap.set("test/Store", "put", (args) => Effect.succeed(args))
)

describe("the table of a handler map", () => {
  it("finds the route of each method by the key's bytes, wherever these are in a message", () => {
    const table = routesOf(handlers).calls
    const message = Uint8Array.of(1, 2, 3, ...put.bytes, 4)
    assert.equal(table.get(get.bytes, 0)?.key.method, "get")
    assert.equal(table.get(message, 3)?.key.method, "put")
  })

  it("has no route for a method that has no handler", () => {
    assert.equal(routesOf(handlers).calls.get(MethodKey.make("test/Store", "delete").bytes, 0), undefined)
    assert.equal(routesOf(HandlerMap.empty).calls.get(get.bytes, 0), undefined)
  })

  it("is made once for each map, and not shared by maps that are equal", () => {
    assert.equal(routesOf(handlers), routesOf(handlers))
    assert.notEqual(routesOf(HandlerMap.merge(handlers)), routesOf(handlers))
  })

  it("is refused for what is no handler map", () => {
    const none: unknown = { entries: [] }
    assert.throws(
      // The cast: a user without types may give anything.
      () => routesOf(none as HandlerMap.HandlerMap<never>),
      /^TypeError: the handlers of a connection: expected a HandlerMap, got \{"entries":\[\]\}$/
    )
  })

  it("is refused for a map of a user's own whose entries are wrong, each time", () => {
    const broken = { ...HandlerMap.empty, entries: new Map([[get.hex, { key: get }]]) } as unknown
    for (let i = 0; i < 2; i++) {
      assert.throws(
        // The cast: as above.
        () => routesOf(broken as HandlerMap.HandlerMap<never>),
        /^TypeError: an entry of a HandlerMap: expected a MethodKey and a function, got /
      )
    }
  })
})
