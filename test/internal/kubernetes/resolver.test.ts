import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { parse } from "../../../src/internal/kubernetes/resolver.ts"

describe("the text of a Service's address", () => {
  it("names the namespace, the Service and the port, by name or number", () => {
    const cases = {
      "k8s://shop/cart:calls": { namespace: "shop", service: "cart", port: "calls" },
      "k8s://shop/cart:7000": { namespace: "shop", service: "cart", port: 7000 },
      "k8s://shop/cart": { namespace: "shop", service: "cart" },
      "k8s:///cart:calls": { service: "cart", port: "calls" }
    }
    for (const [text, expected] of Object.entries(cases)) {
      assert.deepStrictEqual(parse(text), Result.succeed(expected))
    }
  })

  it("is refused where it is invalid, with the reason", () => {
    const problem = (text: string) => Result.getOrThrow(Result.flip(parse(text)))
    const expected = "expected \"k8s://namespace/service:port\""
    for (
      const text of ["", "shop/cart", "k8s://cart", "k8s://shop/cart:calls:1", "k8s://shop/cart/more", "dns://a/b"]
    ) {
      assert.strictEqual(problem(text), `${JSON.stringify(text)} is not the address of a Service: ${expected}`)
    }
    assert.match(
      problem("k8s://Shop/cart"),
      /^"Shop" in "k8s:\/\/Shop\/cart" is not a namespace: expected a name of at/
    )
    assert.match(problem("k8s://shop/"), /^"" in "k8s:\/\/shop\/" is not a Service: /)
    assert.match(problem("k8s://shop/cart:"), /^"" in "k8s:\/\/shop\/cart:" is not a port: /)
    assert.match(problem("k8s://shop/cart:0"), /^"0" in .* is not a port: .* or a number from 1 to 65535$/)
    assert.match(problem("k8s://shop/cart:65536"), /^"65536" in .* is not a port: /)
  })
})
