import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { formatTcp, isUnspecified, parseAddress, parseTarget } from "../../../src/internal/net/address.ts"

const tcp = (host: string, port: number, family = 0) => Result.succeed({ _tag: "Tcp", host, port, family })

describe("parseTarget", () => {
  it.each([
    ["golang.org:http", tcp("golang.org", 80)],
    ["192.0.2.1:http", tcp("192.0.2.1", 80)],
    ["198.51.100.1:80", tcp("198.51.100.1", 80)],
    ["[2001:db8::1]:domain", tcp("2001:db8::1", 53)],
    ["[fe80::1%lo0]:53", tcp("fe80::1%lo0", 53)],
    [":80", tcp("", 80)],
    ["[::]:65535", tcp("::", 65_535)],
    ["[localhost]:0", tcp("localhost", 0)]
  ])("reads %s", (text, target) => {
    assert.deepStrictEqual<unknown>(parseTarget("tcp", text), target)
  })

  it("keeps the family that a network asks for", () => {
    assert.deepStrictEqual<unknown>(parseTarget("tcp4", "localhost:1"), tcp("localhost", 1, 4))
    assert.deepStrictEqual<unknown>(parseTarget("tcp6", "[::1]:1"), tcp("::1", 1, 6))
  })

  it("reads the path of a Unix socket, and a name in the abstract namespace with @ or NUL in front", () => {
    const path = (path: string) => Result.succeed({ _tag: "Unix", path })
    assert.deepStrictEqual<unknown>(parseTarget("unix", "unix.sock"), path("unix.sock"))
    assert.deepStrictEqual<unknown>(parseTarget("unix", "@orders"), path("\0orders"))
    assert.deepStrictEqual<unknown>(parseTarget("unix", "\0orders"), path("\0orders"))
  })
})

describe("parseAddress", () => {
  it("splits the network from the address", () => {
    assert.deepStrictEqual(
      parseAddress("tcp://localhost:80"),
      Result.succeed({ network: "tcp", addr: "localhost:80" })
    )
  })

  it("reads through any mtls:// to the endpoint below", () => {
    assert.deepStrictEqual(
      parseAddress("mtls://unix:///run/orders.sock"),
      Result.succeed({ network: "unix", addr: "/run/orders.sock" })
    )
  })
})

describe("formatTcp", () => {
  it("puts IPv6 addresses in brackets, and shows IPv4 clients of IPv6 sockets as what they are", () => {
    assert.deepStrictEqual(
      [formatTcp("127.0.0.1", 80), formatTcp("::1", 80), formatTcp("::ffff:192.0.2.1", 80)],
      ["127.0.0.1:80", "[::1]:80", "192.0.2.1:80"]
    )
  })
})

describe("isUnspecified", () => {
  it("is true of no host and of the addresses that stand for all, and of no other", () => {
    for (const host of ["", "0.0.0.0", "::", "0:0:0:0:0:0:0:0"]) assert.isTrue(isUnspecified(host), host)
    for (const host of ["0.0.0.1", "::1", "10.0.0.0", "localhost", "0"]) assert.isFalse(isUnspecified(host), host)
  })
})
