import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { merge, Slice, SliceList } from "../../../src/internal/kubernetes/slices.ts"
import { ready, recorded, slice, terminating, unready } from "../../Resolver/kubernetesSupport.ts"

const read = Schema.decodeUnknownSync(Slice)
const readList = Schema.decodeUnknownSync(Schema.fromJsonString(SliceList))

const slices = (...objects: ReadonlyArray<ReturnType<typeof slice>>) =>
  objects.map((object) => read({ ...object, metadata: { ...object.metadata, resourceVersion: "1" } }))

const addressesOf = (all: Iterable<Slice>, port: string | number | undefined = "calls") =>
  merge(all, port).endpoints.map(({ address }) => address)

describe("merging EndpointSlices", () => {
  it("reads what a cluster sends, with the zones of the nodes", () => {
    const { items } = readList(recorded("list.json"))
    assert.deepStrictEqual(merge(items ?? [], "calls"), {
      endpoints: [
        { address: "10.42.1.17:7000", zone: "eu-west-1a" },
        { address: "10.42.2.9:7000", zone: "eu-west-1b" }
      ],
      problems: []
    })
  })

  it("has no endpoints, and no complaint, for a Service without pods", () => {
    const { items } = readList(recorded("no-pods.json"))
    assert.deepStrictEqual(merge(items ?? [], "calls"), { endpoints: [], problems: [] })
    assert.deepStrictEqual(merge([], undefined), { endpoints: [], problems: [] })
  })

  it("puts all slices together in one order, for any order of the slices", () => {
    const all = slices(
      slice("cart-b", [ready("10.0.0.3"), ready("10.0.0.10")]),
      slice("cart-a", [ready("10.0.0.2")])
    )
    const expected = ["10.0.0.10:7000", "10.0.0.2:7000", "10.0.0.3:7000"]
    assert.deepStrictEqual(addressesOf(all), expected)
    assert.deepStrictEqual(addressesOf(all.toReversed()), expected)
  })

  it("has an address that is in two slices once, as the slice in which it is better off says", () => {
    const all = slices(
      slice("cart-a", [unready("10.0.0.1"), terminating("10.0.0.2", true), ready("10.0.0.3", { zone: "a" })]),
      slice("cart-b", [ready("10.0.0.1"), ready("10.0.0.2"), ready("10.0.0.3", { zone: "b" })])
    )
    assert.deepStrictEqual(merge(all, "calls").endpoints, [
      { address: "10.0.0.1:7000", zone: undefined },
      { address: "10.0.0.2:7000", zone: undefined },
      { address: "10.0.0.3:7000", zone: "a" }
    ])
    assert.deepStrictEqual(merge(all.toReversed(), "calls"), merge(all, "calls"))
  })

  describe("for a zone", () => {
    const forZones = (...names: ReadonlyArray<string>) => ({ hints: { forZones: names.map((name) => ({ name })) } })
    const near = (endpoints: ReadonlyArray<ReturnType<typeof ready>>, zone?: string) =>
      merge(slices(slice("cart", endpoints)), "calls", zone).endpoints.map(({ address }) => address)
    const a = ready("10.0.0.1", forZones("a"))
    const b = ready("10.0.0.2", forZones("b", "c"))

    it("has the endpoints that hints have for it", () => {
      assert.deepStrictEqual(near([a, b], "a"), ["10.0.0.1:7000"])
      assert.deepStrictEqual(near([a, b], "c"), ["10.0.0.2:7000"])
    })

    it("has all of them where none is for it, and where any has no hint", () => {
      const all = ["10.0.0.1:7000", "10.0.0.2:7000"]
      assert.deepStrictEqual(near([a, b], "d"), all)
      assert.deepStrictEqual(near([a, ready("10.0.0.2")], "a"), all)
      assert.deepStrictEqual(near([a, ready("10.0.0.2", { hints: null })], "a"), all)
      assert.deepStrictEqual(near([a, ready("10.0.0.2", { hints: { forZones: null } })], "a"), all)
    })

    it("uses the hints of the endpoints that are ready", () => {
      assert.deepStrictEqual(near([a, b, unready("10.0.0.3")], "a"), ["10.0.0.1:7000"])
    })

    it("has all of them where the zone is not said", () => {
      assert.deepStrictEqual(near([a, b]), ["10.0.0.1:7000", "10.0.0.2:7000"])
    })
  })

  it("treats an endpoint without conditions as ready, serving and not terminating", () => {
    const all = slices(slice("cart", [
      { addresses: ["10.0.0.1"] },
      { addresses: ["10.0.0.2"], conditions: null },
      { addresses: ["10.0.0.3"], conditions: {} },
      { addresses: ["10.0.0.4"], conditions: { ready: null, serving: null, terminating: null } },
      { addresses: ["10.0.0.5"], conditions: { ready: false } }
    ]))
    assert.deepStrictEqual(addressesOf(all), ["10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000", "10.0.0.4:7000"])
  })

  it("leaves out endpoints that terminate while another is ready", () => {
    const all = slices(slice("cart-a", [terminating("10.0.0.1", true)]), slice("cart-b", [ready("10.0.0.2")]))
    assert.deepStrictEqual(addressesOf(all), ["10.0.0.2:7000"])
  })

  it("keeps endpoints that terminate and still serve where none is ready", () => {
    const all = slices(
      slice("cart-a", [terminating("10.0.0.1", true), terminating("10.0.0.2", false), unready("10.0.0.3")]),
      slice("cart-b", [{ addresses: ["10.0.0.4"], conditions: { ready: false, terminating: true } }])
    )
    assert.deepStrictEqual(addressesOf(all), ["10.0.0.1:7000", "10.0.0.4:7000"])
  })

  it("writes IPv6 addresses in brackets", () => {
    const all = slices(slice("cart", [ready("fd00::1")], { addressType: "IPv6" }))
    assert.deepStrictEqual(addressesOf(all), ["[fd00::1]:7000"])
  })

  it("has a pod of a dual-stack Service once, with its IPv4 address, and one that has none with its IPv6 address", () => {
    const { items } = readList(recorded("dual-stack.json"))
    assert.deepStrictEqual(addressesOf(items ?? []), ["10.42.1.17:7000", "10.42.2.9:7000", "[fd00:10:42:3::1f]:7000"])
  })

  it("takes the first of an endpoint's addresses", () => {
    const all = slices(slice("cart", [{ ...ready("10.0.0.1"), addresses: ["10.0.0.1", "10.0.0.2"] }]))
    assert.deepStrictEqual(addressesOf(all), ["10.0.0.1:7000"])
  })

  it("leaves out addresses that are none, and types of addresses that have no meaning, and says so", () => {
    const all = slices(
      slice("cart-a", [ready("cart.example.com")], { addressType: "FQDN" }),
      slice("cart-b", [ready("10.0.0.1"), ready("fd00::1"), { ...ready(""), addresses: [] }])
    )
    assert.deepStrictEqual(merge(all, "calls"), {
      endpoints: [{ address: "10.0.0.1:7000", zone: undefined }],
      problems: [
        "the EndpointSlice \"cart-a\" has addresses of the type \"FQDN\": expected IPv4 or IPv6",
        "the EndpointSlice \"cart-b\" has the address \"fd00::1\": expected an IPv4 address",
        "the EndpointSlice \"cart-b\" has the address \"\": expected an IPv4 address"
      ]
    })
  })
})

describe("the port", () => {
  const ports = [
    { name: "calls", protocol: "TCP", port: 7000 },
    { name: "calls-udp", protocol: "UDP", port: 7000 },
    { name: "metrics", port: 9464 }
  ]
  const problemsOf = (all: Iterable<Slice>, port: string | number | undefined) => merge(all, port).problems.join("\n")

  it("by name is that of each slice", () => {
    const all = slices(
      slice("cart-a", [ready("10.0.0.1")], { ports }),
      slice("cart-b", [ready("10.0.0.2")], { ports: [{ name: "calls", protocol: "TCP", port: 7001 }] })
    )
    assert.deepStrictEqual(addressesOf(all, "calls"), ["10.0.0.1:7000", "10.0.0.2:7001"])
  })

  it("by a name that a slice does not have leaves its endpoints out, and says which there are", () => {
    const all = slices(
      slice("cart-a", [ready("10.0.0.1")], { ports }),
      slice("cart-b", [ready("10.0.0.2")], { ports: [{ name: "metrics", port: 9464 }] }),
      slice("cart-c", [ready("10.0.0.3")], { ports: [] })
    )
    assert.deepStrictEqual(addressesOf(all, "calls"), ["10.0.0.1:7000"])
    assert.strictEqual(
      problemsOf(all, "calls"),
      "the EndpointSlice \"cart-b\" has no TCP port named \"calls\": it has \"metrics\" (9464)\n" +
        "the EndpointSlice \"cart-c\" has no TCP port named \"calls\": it has none"
    )
    assert.match(problemsOf(all, "calls-udp"), /"cart-a" has no TCP port named "calls-udp": it has "calls" \(7000\)/)
  })

  it("by number is one that the pods listen on", () => {
    const all = slices(
      slice("cart-a", [ready("10.0.0.1")], { ports }),
      slice("cart-b", [ready("10.0.0.2")], { ports: [] }),
      slice("cart-c", [ready("10.0.0.3")], { ports: null }),
      slice("cart-d", [ready("10.0.0.4")], { ports: [{ port: null }] })
    )
    assert.deepStrictEqual(addressesOf(all, 9464), [
      "10.0.0.1:9464",
      "10.0.0.2:9464",
      "10.0.0.3:9464",
      "10.0.0.4:9464"
    ])
    assert.strictEqual(
      problemsOf(all.slice(0, 1), 80),
      "the EndpointSlice \"cart-a\" has no TCP port 80 on its pods: it has \"calls\" (7000), \"metrics\" (9464)"
    )
  })

  it("need not be given where there is one", () => {
    const one = slices(slice("cart", [ready("10.0.0.1")], { ports: [{ name: "", port: 7000 }, ports[1]] }))
    assert.deepStrictEqual(merge(one, undefined).endpoints.map(({ address }) => address), ["10.0.0.1:7000"])
    assert.match(
      problemsOf(slices(slice("cart", [ready("10.0.0.1")], { ports })), undefined),
      /has several TCP ports, and the option "port" is not set: it has "calls" \(7000\), "metrics" \(9464\)/
    )
    assert.match(
      problemsOf(slices(slice("cart", [ready("10.0.0.1")], { ports: [{}] })), undefined),
      /has a TCP port without a number/
    )
    assert.match(
      problemsOf(slices(slice("cart", [ready("10.0.0.1")], { ports: null })), undefined),
      /"cart" has no TCP port$/
    )
  })
})
