/** The codecs of a method's schemas. */
import { describe, it } from "@effect/vitest"
import { Exit, Schema } from "effect"
import { Rpc } from "effect/rpc"
import * as assert from "node:assert/strict"
import * as Codec from "../../../src/internal/component/codec.ts"
import { MethodCodecs } from "../../../src/internal/component/methodCodecs.ts"

describe("a method's codecs", () => {
  it("give their result at once where the schema needs no effect", () => {
    const codecs = new MethodCodecs(Rpc.make("Do", { payload: { id: Schema.Int } }))
    for (const format of ["binary", "json"] as const) {
      const encoded = Codec.valueNow(codecs.payload(format).encode({ id: 1 }))
      assert.ok(encoded !== undefined)
      assert.deepEqual(Codec.valueNow(codecs.payload(format).decode(encoded.value)), Exit.succeed({ id: 1 }))
    }
  })

  it("are compiled once", () => {
    const codecs = new MethodCodecs(Rpc.make("Do"))
    for (const format of ["binary", "json"] as const) {
      assert.equal(codecs.payload(format), codecs.payload(format))
      assert.equal(codecs.success(format), codecs.success(format))
      assert.equal(codecs.error(format), codecs.error(format))
    }
  })
})
