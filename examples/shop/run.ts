/**
 * Step 5 of the shop: processes. The front, the orders service and two warehouses each run `services/main.ts` in their
 * own process. This program starts them, and is the customer.
 *
 * The program checks each claim that it prints. It exits with code 0 only if all claims were observed.
 *
 * Run it with `node examples/shop/run.ts`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { ConfigProvider, Console, Effect, Layer } from "effect"
import * as assert from "node:assert/strict"
import { makeObserver } from "../support/observe.ts"
import { startShop } from "../support/shop.ts"
import { Front, Stock } from "./services/clients.ts"
import { Network } from "./services/network.ts"

/** A customer has the same settings and the same clients as the services. */
const clients = (settings: Readonly<Record<string, string>>) =>
  Layer.merge(Front.layerConfig, Stock.layerConfig).pipe(
    Layer.provide(Network.sockets),
    Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(settings)))
  )

const items = ["tea", "bread", "salt", "honey", "rice", "soap"]

const main = Effect.gen(function*() {
  const { observe, verdict } = makeObserver()
  const { front, north, orders, settings, south } = yield* startShop()
  const services = [front, orders, north, south]
  yield* Console.log("the processes of the shop:")
  for (const { address, name, process } of services) {
    yield* Console.log(`  ${name}: process ${process.pid} on ${address}`)
  }

  yield* Effect.gen(function*() {
    const front = yield* Front
    const stock = yield* Stock

    yield* Effect.forEach(items, (item) => stock.Put({ item, count: 10 }), { concurrency: "unbounded" })

    yield* observe(
      "an order goes through three services",
      Effect.gen(function*() {
        const order = yield* front.Buy({
          customer: "Ada",
          lines: [{ item: "tea", count: 2 }, { item: "salt", count: 1 }]
        })
        assert.deepEqual(order.taken.map(({ count, item }) => [item, count]), [["tea", 2], ["salt", 1]])
        const taken = order.taken.map(({ count, item, warehouse }) => `${count} ${item} from ${warehouse}`)
        return `order ${order.number} of ${order.customer}: ${taken.join(", ")}`
      })
    )

    yield* observe(
      "the customer gets the error of the stock with its type, through two services",
      Effect.gen(function*() {
        const error = yield* Effect.flip(
          front.Buy({ customer: "Bob", lines: [{ item: "bread", count: 10 }, { item: "tea", count: 9 }] })
        )
        assert.equal(error._tag, "OutOfStock")
        assert.deepEqual([error.item, error.left], ["tea", 8])
        return `${error._tag}: ${error.message}`
      })
    )

    yield* observe(
      "the lines of the failed order were put back",
      Effect.gen(function*() {
        const order = yield* front.Buy({ customer: "Bob", lines: [{ item: "bread", count: 10 }] })
        return `all ${order.taken[0]?.count} loaves of bread can be bought again`
      })
    )

    yield* observe(
      "all calls for an item go to the same warehouse",
      Effect.gen(function*() {
        yield* stock.Put({ item: "bread", count: 10 })
        const [first, ...later] = yield* Effect.replicateEffect(
          Effect.forEach(items, (item) => front.Buy({ customer: "Eve", lines: [{ item, count: 1 }] })),
          5
        ).pipe(
          Effect.map((rounds) => rounds.map((orders) => orders.map(({ taken }) => taken[0]?.warehouse)))
        )
        for (const warehouses of later) assert.deepEqual(warehouses, first)
        assert.deepEqual(new Set(first), new Set(["north", "south"]))
        return items.map((item, i) => `${item} → ${first?.[i]}`).join(", ")
      })
    )
  }).pipe(Effect.provide(clients(settings)))

  yield* observe(
    "the services stop on SIGTERM",
    Effect.gen(function*() {
      const codes = yield* Effect.forEach(services, ({ process }) =>
        // `kill` sends SIGTERM.
        Effect.andThen(process.kill(), process.exitCode), { concurrency: "unbounded" })
      // Effect's runtime exits with code 128 + 2 when it has handled a signal and closed all resources. A process that
      // was killed would have no exit code.
      assert.deepEqual(codes, [130, 130, 130, 130])
      return `exit codes: ${codes.join(", ")}`
    })
  )

  yield* verdict
})

main.pipe(
  Effect.timeout("30 seconds"),
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
