import { assert, describe, it } from "@effect/vitest"
import { Equal, Hash, HashMap, Option } from "effect"
import { inspect } from "node:util"
import * as MethodKey from "../src/MethodKey.ts"
import vectors from "./data/wire-vectors.json" with { type: "json" }

describe("MethodKey", () => {
  for (const { component, hex, method } of vectors.methodKeys) {
    it(`is what the reference makes of ${JSON.stringify(component)} and ${JSON.stringify(method)}`, () => {
      const key = MethodKey.make(component, method)
      assert.strictEqual(key.hex, hex)
      assert.deepStrictEqual(key.bytes, Uint8Array.from(Buffer.from(hex, "hex")))
      assert.strictEqual(key.component, component)
      assert.strictEqual(key.method, method)
    })
  }

  it("hashes the names as UTF-8", () => {
    // printf 'größe.日本' | sha256sum
    assert.strictEqual(MethodKey.make("größe", "日本").hex, "9a747ec5a8b8442558c86c80a2f8fedd")
  })

  it("is equal to a key with the same bytes, and to nothing else", () => {
    const key = MethodKey.make("a", "b.c")
    assert.isTrue(Equal.equals(key, MethodKey.make("a", "b.c")))
    assert.isTrue(Equal.equals(key, MethodKey.make("a.b", "c")))
    assert.strictEqual(Hash.hash(key), Hash.hash(MethodKey.make("a.b", "c")))
    assert.isFalse(Equal.equals(key, MethodKey.make("a", "b.d")))
    assert.isFalse(Equal.equals<unknown, unknown>(key, { ...key }))
    assert.isFalse(Equal.equals<unknown, unknown>(key, key.hex))
  })

  it("can be the key of a HashMap", () => {
    const map = HashMap.make([MethodKey.make("a", "b"), 1], [MethodKey.make("a", "c"), 2])
    assert.deepStrictEqual(HashMap.get(map, MethodKey.make("a", "c")), Option.some(2))
  })

  it("prints as hex", () => {
    const key = MethodKey.make("test/Echo", "echo")
    const hex = "0719f928535659740e3311e40b853a28"
    assert.strictEqual(String(key), hex)
    assert.strictEqual(JSON.stringify({ key }), `{"key":"${hex}"}`)
    assert.strictEqual(inspect({ key }), `{ key: ${hex} }`)
  })

  it("recognises keys", () => {
    assert.isTrue(MethodKey.isMethodKey(MethodKey.make("a", "b")))
    assert.isFalse(MethodKey.isMethodKey({ component: "a", method: "b" }))
    assert.isFalse(MethodKey.isMethodKey(undefined))
  })
})
