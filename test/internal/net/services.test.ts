import { assert, describe, it } from "@effect/vitest"
import { parseServices, servicePort } from "../../../src/internal/net/services.ts"

describe("servicePort", () => {
  it("knows the names that Go's resolver has built in", () => {
    assert.deepStrictEqual(["http", "https", "domain", "ssh", "submissions"].map(servicePort), [80, 443, 53, 22, 465])
  })

  it("does not mind the case of a name", () => {
    assert.strictEqual(servicePort("HTTP"), 80)
  })

  it("does not know a name that no service has", () => {
    assert.isUndefined(servicePort("no-such-service"))
    assert.isUndefined(servicePort("constructor"))
  })
})

describe("parseServices", () => {
  it("reads the TCP services with their aliases, and nothing else", () => {
    const services = parseServices(
      "# Network services\n\nnntp\t\t119/tcp\t\treadnews untp\t# USENET\nsyslog 514/udp\nBroken\nbig 700000/tcp\nkerberos 88/tcp krb5\n"
    )
    assert.deepStrictEqual([...services], [["nntp", 119], ["readnews", 119], ["untp", 119], ["kerberos", 88], [
      "krb5",
      88
    ]])
  })

  it("takes the first of two lines for one name", () => {
    assert.deepStrictEqual([...parseServices("a 1/tcp\na 2/tcp\nb 3/tcp a\n")], [["a", 1], ["b", 3]])
  })
})
