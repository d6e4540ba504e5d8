/** The steps that the model test draws: anything that can happen to a Connection. */
import * as fc from "fast-check"
import type { Refusal, Word } from "./handNetwork.ts"

export const addresses: ReadonlyArray<string> = ["a", "b", "c"]

const tag = <T extends string>(tag: T) => fc.constant(tag)
const draw = <A>(weight: number, arbitrary: fc.Arbitrary<A>) => ({ weight, arbitrary })

/** The rank of one among the lines or calls that exist by then. */
const which = fc.nat(9)

const word = fc.oneof(
  draw(6, tag("Answer")),
  draw(2, fc.constantFrom<"Failure" | "TimeIsUp">("Failure", "TimeIsUp")),
  draw(2, fc.constantFrom<"Version" | "GoingAwayUnflagged">("Version", "GoingAwayUnflagged")),
  draw(2, tag("GoingAway")),
  draw(1, tag("Nonsense"))
)

/** What a server may say as soon as it is connected to. */
const greetings = ["V", "V", "V", "V", "V", "V", "V", "VG", "VN", "G", ""].map((greeting) =>
  greeting.split("").map((letter): Word => ({
    _tag: letter === "V" ? "Version" : letter === "G" ? "GoingAway" : "Nonsense"
  }))
)

const refusal = fc.constantFrom<Refusal>("fails", "dies", "is interrupted", "gives a closed socket")

/** Anything that can happen. */
export const anyStep = fc.oneof(
  draw(6, fc.record({ _tag: tag("List"), addresses: fc.array(fc.constantFrom(...addresses), { maxLength: 5 }) })),
  draw(16, fc.record({ _tag: tag("Unlist"), which })),
  draw(30, fc.record({ _tag: tag("Relist"), which })),
  draw(
    60,
    fc.record({
      _tag: tag("Call"),
      only: fc.constantFrom(undefined, undefined, undefined, ...addresses),
      waitForReady: fc.boolean(),
      timeout: fc.constantFrom(undefined, undefined, 5, 30),
      isLarge: fc.boolean(),
      retries: fc.boolean(),
      isFast: fc.boolean()
    })
  ),
  draw(20, fc.record({ _tag: tag("Interrupt"), which: fc.nat(3) })),
  draw(60, fc.record({ _tag: tag("Connect"), which, words: fc.constantFrom(...greetings) })),
  draw(8, fc.record({ _tag: tag("Refuse"), which, how: refusal })),
  draw(
    8,
    fc.record({
      _tag: tag("Preset"),
      address: fc.constantFrom(...addresses),
      as: fc.oneof(fc.record({ words: fc.constantFrom(...greetings) }), fc.record({ how: refusal }))
    })
  ),
  draw(
    60,
    fc.record({
      _tag: tag("Say"),
      which,
      words: fc.array(fc.record({ _tag: word, which }), { minLength: 1, maxLength: 3 })
    })
  ),
  draw(10, fc.record({ _tag: tag("Cut"), which })),
  draw(4, fc.record({ _tag: tag("Hangup"), which, how: fc.constantFrom<"end" | "reset">("end", "reset") })),
  draw(12, fc.record({ _tag: tag("Pass"), millis: fc.integer({ min: 1, max: 25 }) })),
  draw(1, fc.record({ _tag: tag("Close") }))
)

export type Step = typeof anyStep extends fc.Arbitrary<infer A> ? A : never

/** So many steps that 40 of them find something to be done to. Left to itself, fast-check would draw few. */
export const steps = <A>(step: fc.Arbitrary<A>): fc.Arbitrary<ReadonlyArray<A>> =>
  fc.noBias(fc.array(step, { maxLength: 80, size: "max" }))
