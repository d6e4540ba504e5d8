/**
 * The code under test: it calls the price service. It needs `Prices`, and does not know how the calls are carried.
 */
import { Effect, Schedule } from "effect"
import { Connection } from "effect-call"
import { Prices } from "./contract.ts"

/** The text for an item in a shop window. It tries again while the service cannot be reached, for two seconds. */
export const priceTag = Effect.fn("priceTag")(function*(item: string) {
  const prices = yield* Prices
  return yield* prices.Price({ item }).pipe(
    Connection.withOptions({ timeout: "2 seconds", retry: Schedule.spaced("100 millis") }),
    Effect.map((price) => `${item}: ${price} €`),
    Effect.catchTag("NoSuchItem", () => Effect.succeed(`${item}: not in the catalogue`)),
    Effect.catchTag(
      ["Unreachable", "DeadlineExceeded", "CommunicationError"],
      () => Effect.succeed(`${item}: price on request`)
    )
  )
})
