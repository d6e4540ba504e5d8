/**
 * Tests of the whole shop in one process, over a network in memory.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Fiber, Layer } from "effect"
import { Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { Front, Stock } from "./services/clients.ts"
import { OutOfStock, Unavailable } from "./services/contracts.ts"
import { FrontServer } from "./services/front.ts"
import { Network } from "./services/network.ts"
import { OrdersServer } from "./services/orders.ts"
import { StockServer } from "./services/stock.ts"

const settings = (values: Readonly<Record<string, string>>) =>
  ConfigProvider.layer(ConfigProvider.fromEnvRecord({
    SHOP_STOCK_ENDPOINTS: "memory://north,memory://south",
    SHOP_ORDERS_LISTEN: "memory://orders",
    SHOP_ORDERS_ENDPOINTS: "memory://orders",
    SHOP_FRONT_LISTEN: "memory://front",
    SHOP_FRONT_ENDPOINTS: "memory://front",
    ...values
  }))

const nameOf = (address: string) => address.replace("memory://", "")

/** A network in memory in place of sockets, and the scheme `memory://` for the settings that name replicas. */
const InMemory = Layer.mergeAll(
  Layer.effect(
    Network,
    TestNetwork.TestNetwork.useSync((network) =>
      Network.of({ listen: (address, handlers) => network.listener(nameOf(address), handlers) })
    )
  ),
  Resolver.layerSchemes({
    memory: (addresses) =>
      Effect.forEach(addresses.split(","), (address) => TestNetwork.endpoint(nameOf(address))).pipe(
        Effect.map((endpoints) => Resolver.constant(...endpoints))
      )
  }),
  Resolver.layerDns(),
  NodeFileSystem.layer
)

/** Fresh: there are two of it in this process. */
const warehouse = (name: string) =>
  Layer.fresh(StockServer).pipe(
    Layer.provide(settings({ SHOP_STOCK_LISTEN: `memory://${name}`, SHOP_STOCK_WAREHOUSE: name }))
  )

const Shop = Layer.mergeAll(
  Front.layerConfig,
  Stock.layerConfig,
  Layer.mergeAll(FrontServer, OrdersServer, warehouse("north"), warehouse("south")).pipe(Layer.provide(settings({})))
).pipe(Layer.provide(settings({})), Layer.provide(InMemory), Layer.provideMerge(TestNetwork.layer))

const items = ["tea", "bread", "salt", "honey", "rice", "soap"]

const buy = Effect.fnUntraced(function*(...lines: readonly [[string, number], ...ReadonlyArray<[string, number]>]) {
  const front = yield* Front
  const [first, ...rest] = lines
  const line = ([item, count]: [string, number]) => ({ item, count })
  return yield* front.Buy({ customer: "Ada", lines: [line(first), ...rest.map(line)] })
})

const put = (item: string, count: number) => Stock.use((stock) => stock.Put({ item, count }))

describe("the shop, in one process and without sockets", () => {
  it.effect("orders go through three services, and an item is always found in the same warehouse", () =>
    Effect.gen(function*() {
      yield* Effect.forEach(items, (item) => put(item, 10), { concurrency: "unbounded" })
      const found = new Map<string, Set<string>>()
      for (let round = 1; round <= 5; round++) {
        for (const item of items) {
          const { taken } = yield* buy([item, 1])
          for (const { warehouse } of taken) found.set(item, (found.get(item) ?? new Set()).add(warehouse))
        }
      }
      assert.deepEqual([...found.keys()], items)
      assert.deepEqual(new Set([...found.values()].map(({ size }) => size)), new Set([1]))
      assert.deepEqual(new Set([...found.values()].flatMap((names) => [...names])), new Set(["north", "south"]))
    }).pipe(Effect.provide(Shop)))

  it.effect("a failure of the stock arrives with its type, and what was taken has been put back", () =>
    Effect.gen(function*() {
      yield* put("bread", 3)
      yield* put("tea", 1)
      const error = yield* Effect.flip(buy(["bread", 3], ["tea", 2]))
      assert.ok(error instanceof OutOfStock)
      assert.deepEqual([error.item, error.left, error.message], ["tea", 1, "only 1 left of tea"])
      const order = yield* buy(["bread", 3], ["tea", 1])
      assert.deepEqual([order.number, order.taken.map(({ item }) => item)], [1, ["bread", "tea"]])
    }).pipe(Effect.provide(Shop)))

  it.effect("a warehouse that cannot be reached makes its items unavailable, and no others", () =>
    Effect.gen(function*() {
      yield* put("bread", 2)
      yield* put("tea", 1)
      // Where bread is; no connection to it may be left.
      yield* TestNetwork.fault("north", { dial: "refuse", cutAfter: { toServer: 0 } })
      yield* buy(["tea", 1])
      const error = yield* Effect.flip(buy(["bread", 1]))
      assert.ok(error instanceof Unavailable)
      assert.equal(error.service, "stock")
      assert.match(error.message, /memory:\/\/north/)
    }).pipe(Effect.provide(Shop)))

  it.effect("a customer does not wait for longer than five seconds", () =>
    Effect.gen(function*() {
      yield* put("tea", 1)
      yield* TestNetwork.fault("south", { blackHole: "toServer" })
      const buying = yield* Effect.forkChild(Effect.flip(buy(["tea", 1])), { startImmediately: true })
      // In steps: the five seconds begin when the front has got the call, which takes some turns of the event loop.
      let waited = 0
      for (; buying.pollUnsafe() === undefined; waited += 100) yield* TestClock.adjust("100 millis")
      assert.ok(waited >= 5000)
      const error = yield* Fiber.join(buying)
      assert.ok(error instanceof Unavailable)
      assert.equal(error.service, "orders")
      // What is under way ends, and with it the shop.
      yield* TestNetwork.heal("south")
    }).pipe(Effect.provide(Shop)))

  it.effect("settings that cannot be are named, with what was expected", () =>
    Effect.gen(function*() {
      const problem = (setting: string, value: string) => {
        const right = { SHOP_ORDERS_LISTEN: "tcp://127.0.0.1:0", SHOP_STOCK_ENDPOINTS: "tcp://127.0.0.1:1" }
        return Layer.build(OrdersServer).pipe(
          Effect.provide([Network.sockets, settings({ ...right, [setting]: value })]),
          Effect.scoped,
          Effect.flip,
          Effect.map(({ message }) => message)
        )
      }
      assert.match(yield* problem("SHOP_STOCK_ENDPOINTS", ""), /SHOP_STOCK_ENDPOINTS/)
      assert.equal(
        yield* problem("SHOP_STOCK_ENDPOINTS", "tcp://127.0.0.1:1,10.0.0.1"),
        "SHOP_STOCK_ENDPOINTS: \"10.0.0.1\" has no port: expected \"host:port\""
      )
      assert.equal(
        yield* problem("SHOP_ORDERS_LISTEN", "tcp://127.0.0.1"),
        "SHOP_ORDERS_LISTEN: \"127.0.0.1\" has no port: expected \"host:port\""
      )
    }))
})
