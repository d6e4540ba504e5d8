/**
 * The orders service: it takes the lines of an order from the stock.
 */
import { Effect, Exit, Layer, Ref } from "effect"
import { Deadline } from "effect-call"
import { Stock } from "./clients.ts"
import { type Line, Order, OrdersComponent, orUnavailable } from "./contracts.ts"
import { serverAt } from "./network.ts"

export const OrdersHandlers = OrdersComponent.group.toLayer(Effect.gen(function*() {
  const stock = yield* Stock
  const number = yield* Ref.make(0)

  /**
   * Takes a line, and puts it back if the order fails. It does so even if the caller has disconnected, or the deadline
   * has passed.
   */
  const take = (line: Line) =>
    Effect.acquireRelease(stock.Take(line), (_, exit) =>
      Exit.isSuccess(exit)
        ? Effect.void
        : stock.Put(line).pipe(
          Deadline.within("1 second"),
          Deadline.none,
          Effect.catch((error) => Effect.logError("a line is lost", line, error))
        ))

  return OrdersComponent.group.of({
    Place: ({ customer, lines }) =>
      Effect.forEach(lines, take, { concurrency: "unbounded" }).pipe(
        Effect.zipWith(
          Ref.updateAndGet(number, (n) => n + 1),
          (taken, number) => new Order({ number, customer, taken })
        ),
        Effect.scoped,
        orUnavailable("stock")
      )
  })
}))

export const OrdersServer = serverAt("SHOP_ORDERS_LISTEN", OrdersComponent, OrdersHandlers).pipe(
  Layer.provide(Stock.layerConfig)
)
