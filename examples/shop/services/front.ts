/**
 * The front: the service that customers call. An order has a deadline of five seconds. The deadline includes the calls
 * that the other services make for this order.
 */
import { Effect, Layer } from "effect"
import { Deadline } from "effect-call"
import { Orders } from "./clients.ts"
import { FrontComponent, orUnavailable } from "./contracts.ts"
import { serverAt } from "./network.ts"

export const FrontHandlers = FrontComponent.group.toLayer(Effect.gen(function*() {
  const orders = yield* Orders

  return FrontComponent.group.of({
    Buy: (basket) => orders.Place(basket).pipe(Deadline.within("5 seconds"), orUnavailable("orders"))
  })
}))

export const FrontServer = serverAt("SHOP_FRONT_LISTEN", FrontComponent, FrontHandlers).pipe(
  Layer.provide(Orders.layerConfig)
)
