/**
 * The parts of the texts of resolvers.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import * as assert from "node:assert/strict"
import { isScheme, parseEndpoints, splitFile, splitScheme } from "../../../src/internal/resolver/parse.ts"

describe("the text of a resolver", () => {
  it("is split at its first ://", () => {
    assert.deepEqual(splitScheme("file://a?tcp://b:1"), Result.succeed({ scheme: "file", address: "a?tcp://b:1" }))
    assert.deepEqual(splitScheme("://a"), Result.succeed({ scheme: "", address: "a" }))
  })

  it("is refused without a scheme, and quoted", () => {
    assert.deepEqual(splitScheme("a:1"), Result.fail("\"a:1\" has no scheme: expected \"scheme://address\""))
  })

  it("has a scheme that begins with a small letter", () => {
    assert.deepEqual(["tcp", "dns+srv", "k8s", "x-1.y"].filter((scheme) => !isScheme(scheme)), [])
    assert.deepEqual(["", "Tcp", "8s", "-a", "a b", "a_b", "tcp\n"].filter(isScheme), [])
  })
})

describe("a list of addresses", () => {
  it.effect("has one network, unless an address names another one", () =>
    Effect.gen(function*() {
      const endpoints = yield* parseEndpoints("unix", "/run/a, tcp://b:7000 ,/run/c")
      assert.deepEqual(endpoints.map(({ address }) => address), ["unix:///run/a", "tcp://b:7000", "unix:///run/c"])
    }))

  it.effect("is refused with the one address that is wrong", () =>
    Effect.gen(function*() {
      const { text } = yield* Effect.flip(parseEndpoints("tcp", "a:1,b,c:1"))
      assert.equal(text, "b")
    }))
})

describe("a file with its endpoints", () => {
  it("is split at its first question mark", () => {
    assert.deepEqual(splitFile("/a?tcp://b:1?c"), Result.succeed({ path: "/a", endpoints: "tcp://b:1?c" }))
  })

  it("is refused without a path, or without endpoints", () => {
    for (const address of ["?tcp://b:1", "/a", ""]) assert.ok(Result.isFailure(splitFile(address)), address)
  })
})
