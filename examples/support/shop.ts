/**
 * Starts the services of the shop, each in a separate process. The runner of the `shop` example and its tests use it.
 */
import { Deferred, Effect, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { fileURLToPath } from "node:url"

const main = fileURLToPath(new URL("../shop/services/main.ts", import.meta.url))
const tether = new URL("tether.ts", import.meta.url).href

/** Starts a service, and waits until it listens. The service ends when the Scope closes. */
const startService = Effect.fnUntraced(function*(name: string, settings: Readonly<Record<string, string>>) {
  const process = yield* ChildProcess.make(globalThis.process.execPath, ["--import", tether, main, name], {
    env: settings,
    extendEnv: true,
    stderr: "inherit",
    forceKillAfter: "10 seconds"
  })
  const log: Array<string> = []
  const listening = yield* Deferred.make<string, Error>()
  // Read all of the output: a process blocks when its output is not read.
  yield* process.stdout.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.runForEach((line) => {
      log.push(line)
      const address = / listens on (\S+)/.exec(line)?.[1]
      return address === undefined ? Effect.void : Deferred.succeed(listening, address)
    }),
    Effect.ensuring(
      Effect.suspend(() => Deferred.fail(listening, new Error(`${name} did not listen: ${log.join("\n")}`)))
    ),
    Effect.forkScoped
  )
  return { name, process, address: yield* Deferred.await(listening), log }
})

/** Starts the whole shop: front, orders and two warehouses. Each of them gets the `settings`. */
export const startShop = Effect.fnUntraced(function*(settings: Readonly<Record<string, string>> = {}) {
  const start = (name: string, setting: string, more: Readonly<Record<string, string>>) =>
    startService(name, { ...settings, [setting]: "tcp://127.0.0.1:0", ...more })

  const [north, south] = yield* Effect.all([
    start("stock", "SHOP_STOCK_LISTEN", { SHOP_STOCK_WAREHOUSE: "north" }),
    start("stock", "SHOP_STOCK_LISTEN", { SHOP_STOCK_WAREHOUSE: "south" })
  ], { concurrency: "unbounded" })
  const SHOP_STOCK_ENDPOINTS = `${north.address},${south.address}`
  const orders = yield* start("orders", "SHOP_ORDERS_LISTEN", { SHOP_STOCK_ENDPOINTS })
  const front = yield* start("front", "SHOP_FRONT_LISTEN", { SHOP_ORDERS_ENDPOINTS: orders.address })
  return {
    front,
    orders,
    north,
    south,
    /** The settings of a client of the shop. */
    settings: { SHOP_STOCK_ENDPOINTS, SHOP_ORDERS_ENDPOINTS: orders.address, SHOP_FRONT_ENDPOINTS: front.address }
  }
})
