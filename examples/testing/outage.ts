/**
 * An outage in memory: two servers, one of which becomes unreachable, and then both. The time is that of a TestClock,
 * so that two seconds pass in no time. Tests of a project do the same with `it.effect` of @effect/vitest.
 *
 * Run it with `node examples/testing/outage.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Clock, Console, Effect, Layer, Logger } from "effect"
import { Component, Connection, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import { Prices, PricesComponent } from "./prices/contract.ts"
import { priceTag } from "./prices/priceTag.ts"
import { inTime } from "./support/time.ts"

const startServer = Effect.fnUntraced(function*(name: string, price: number) {
  const handlers = yield* Component.handlers(
    PricesComponent,
    PricesComponent.group.toLayer({ Price: () => Effect.succeed(price), SetPrice: () => Effect.void })
  )
  yield* TestNetwork.listen(name, handlers)
})

/** A replica that has died: its connections are broken, and it cannot be dialed. */
const dead: TestNetwork.Faults = { dial: "refuse", cutAfter: { toServer: 0 } }

const program = Effect.gen(function*() {
  yield* startServer("a", 3)
  yield* startServer("b", 4)
  const connection = yield* Connection.make(
    Resolver.constant(yield* TestNetwork.endpoint("a"), yield* TestNetwork.endpoint("b"))
  )
  const show = Effect.fnUntraced(function*(when: string) {
    const tag = yield* inTime(priceTag("tea"))
    yield* Console.log(`${when}: ${tag}, after ${yield* Clock.currentTimeMillis} ms`)
  }, Effect.provide(Prices.layer.pipe(Layer.provide(Layer.succeed(Connection.Connection, connection)))))

  yield* show("both servers run")
  yield* TestNetwork.fault("a", dead)
  yield* show("a has died")
  yield* TestNetwork.fault("b", dead)
  yield* show("b has died, too")
  yield* TestNetwork.heal("b")
  yield* show("b is back")
})

// No loggers: the warnings about the faults are expected.
const Test = Layer.mergeAll(TestNetwork.layer, TestClock.layer(), Logger.layer([]))

program.pipe(Effect.scoped, Effect.provide(Test), NodeRuntime.runMain)
