import { describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as assert from "node:assert/strict"
import type { SecureContextOptions } from "node:tls"
import { checkedOptions, checkedProtocol, withoutValue } from "../../../src/internal/net/tlsOptions.ts"

const versionOf = (options: SecureContextOptions) =>
  Result.match(checkedOptions(options), { onSuccess: ({ minVersion }) => minVersion, onFailure: (why) => why })

describe("TLS options", () => {
  it.each<readonly [SecureContextOptions, string | undefined]>([
    [{}, "TLSv1.3"],
    [{ minVersion: "TLSv1.2" }, "TLSv1.2"],
    [{ maxVersion: "TLSv1.2" }, "TLSv1.2"],
    [{ secureProtocol: "TLSv1_2_method" }, undefined],
    [{ secureProtocol: "TLSv1_2_client_method" }, undefined],
    [{ minVersion: "TLSv1.1" }, "minVersion is \"TLSv1.1\": expected \"TLSv1.2\" or \"TLSv1.3\""],
    [{ maxVersion: "TLSv1" }, "maxVersion is \"TLSv1\": expected \"TLSv1.2\" or \"TLSv1.3\""],
    [
      { secureProtocol: "TLS_method" },
      "secureProtocol is \"TLS_method\": expected \"TLSv1_2_method\", or minVersion in its place"
    ],
    [
      { minVersion: "TLSv1.3", maxVersion: "TLSv1.2" },
      "minVersion is \"TLSv1.3\": expected no more than maxVersion, which is \"TLSv1.2\""
    ]
  ])("allow TLS 1.3, and 1.2 where it is asked for: %o", (options, expected) => {
    assert.equal(versionOf(options), expected)
  })

  it.each(["ca", "cert", "crl", "key", "pfx"] as const)("are refused where %s is an empty file", (name) => {
    for (const empty of ["", new Uint8Array(), ["text", ""]]) {
      assert.equal(versionOf({ [name]: empty }), `${name} is empty`)
    }
  })

  it("do not allow a connection to have another version", () => {
    assert.equal(checkedProtocol("TLSv1.2"), undefined)
    assert.equal(checkedProtocol("TLSv1.3"), undefined)
    for (const protocol of ["TLSv1.1", null]) assert.match(String(checkedProtocol(protocol)), /^the connection speaks /)
  })

  it("are not shown where Node refuses one of them", () => {
    const shown = withoutValue(new TypeError("The \"passphrase\" is bad. Received 'secret'"))
    assert.ok(shown instanceof TypeError)
    assert.equal(shown.message, "The \"passphrase\" is bad.")
    const other = new Error("no value here")
    assert.equal(withoutValue(other), other)
  })
})
