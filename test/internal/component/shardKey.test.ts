import { it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { hashKey } from "../../../src/internal/component/shardKey.ts"

it("a text's shard key is the first eight bytes of its SHA-256, little-endian: for every process and version the same", () => {
  // `printf tea | sha256sum` prints a9f74d1ec36ebdeb…
  assert.equal(hashKey("tea"), 0xebbd6ec31e4df7a9n)
  assert.equal(hashKey(""), 0x141cfc9842c4b0e3n)
  assert.equal(hashKey("größe"), 0xffaf671b67a253d3n)
})
