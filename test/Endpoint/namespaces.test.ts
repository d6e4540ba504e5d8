import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { hasNamespaces, inNamespace } from "./namespace.ts"

if (!hasNamespaces) {
  // Not by the console, which is silent here.
  const line = "!".repeat(100)
  process.stderr.write(
    `\n${line}\n!! SKIPPED: all tests of dialing in a network of their own.\n`
      + `!! They need Linux, and root (unshare -mn).\n${line}\n\n`
  )
}

describe.skipIf(!hasNamespaces)("in a network of its own", () => {
  let found: Readonly<Record<string, unknown>>
  // One process for all of them: it takes longer to start than what it does.
  beforeAll(async () => {
    found = await Effect.runPromise(Effect.scoped(inNamespace([
      "127.0.0.1 localhost",
      "::1 localhost",
      "::1 four.test",
      "2001:db8::1 four.test",
      "127.0.0.1 four.test",
      "127.0.0.2 four.test",
      "2001:db8::5 two.test",
      "192.0.2.9 two.test"
    ], [
      // It has an IPv4 address, and no IPv6 address except link-local ones.
      "ip addr add 192.0.2.9/24 dev lo"
    ])))
  }, 60_000)

  it("there is one lookup for each name, and no more, even if many dials are given up while name servers are silent", () => {
    assert.deepStrictEqual(found["silentDns"], {
      lookups: 2,
      sockets: 0,
      megabytes: 0,
      why: "unreachable: tcp://a.test:7000: "
        + "no connection and version message within 50ms (up to now: the lookup of a.test has no answer)"
    })
  })

  it("a client of localhost meets a server of localhost that is on ::1, though there is no other IPv6 address", () => {
    assert.deepStrictEqual(found["localhost"], { address: "tcp://[::1]:7000", answer: [1] })
  })

  it("IPv6 and IPv4 addresses are tried in turn, and the error says of each why it failed", () => {
    const addresses = String(found["order"]).match(/(?<=(ECONNREFUSED|ENETUNREACH) )\S+(?=:7000)/g) ?? []
    assert.deepStrictEqual(addresses.map((address) => address.includes("::") ? 6 : 4), [6, 4, 6, 4])
    assert.sameMembers(addresses, ["::1", "127.0.0.1", "2001:db8::1", "127.0.0.2"], String(found["order"]))
  })

  it("a socket that is connected to itself is not taken for a server, and its port is freed", () => {
    const refused = (where: string) =>
      `connect ECONNREFUSED ${where}:40000 - the socket was connected to itself, so there is no listener`
    assert.deepStrictEqual(found["toItself"], {
      outcomes: [
        `cannot dial tcp://127.0.0.1:40000: ${refused("127.0.0.1")}`,
        `cannot dial tcp://[::1]:40000: ${refused("[::1]")}`,
        `cannot dial tcp://localhost:40000: ${refused("[::1]")}; ${refused("127.0.0.1")}`
      ],
      address: "tcp://127.0.0.1:40000"
    })
  })

  it("a dial waits for a local port where there is none", () => {
    assert.deepStrictEqual(found["noPort"], { waits: true, second: "connected" })
  })

  it("a Listener on a name is on its first address that is this machine's, and on no other where that is in use", () => {
    assert.deepStrictEqual(found["listen"], {
      first: "2001:db8::5",
      address: "tcp://192.0.2.9:7000",
      second: "cannot listen on tcp://two.test:7000: listen EADDRINUSE: address already in use 192.0.2.9:7000"
    })
  })

  it("a dial does not wait for an address of a family that the machine has not", () => {
    assert.strictEqual(
      found["noIPv6"],
      "cannot dial tcp://:7000: connect ECONNREFUSED 127.0.0.1:7000; connect EADDRNOTAVAIL ::1:7000 - Local (:::0)"
    )
  })
})
