/**
 * Whatever happens to a Connection, in whatever order: its endpoints, connections and calls are where they must be.
 *
 * Steps are drawn at random. What they do to a Connection is done to a small {@link Model}, too, and both must be the
 * same all along. Where there is no model of it, there is what must always hold. A failure prints what was done, and
 * the seed to draw the steps again with.
 */
import { describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { Model } from "./model.ts"
import { addresses, anyStep, type Step, steps } from "./modelSteps.ts"
import { type Ways, World } from "./modelWorld.ts"

const listAll: Step = { _tag: "List", addresses: [...addresses] }
const close: Step = { _tag: "Close" }
const call: Step = {
  _tag: "Call",
  only: undefined,
  waitForReady: true,
  timeout: undefined,
  isLarge: false,
  isFast: true,
  retries: false
}

/**
 * Whether a step loses a connection and, with it, what was sent in the same turn: which of the two is first is not to
 * matter.
 */
const isAlone = (step: Step) => {
  if (step._tag === "Hangup") return true
  const words = step._tag === "Connect" || step._tag === "Say" ? step.words : []
  return words.some(({ _tag }) => _tag === "Nonsense")
}

/** Makes a world. Where something fails in it, says what was done before. */
const inWorld = async (ways: Ways, f: (world: World) => Promise<void>) => {
  const world = new World(ways)
  try {
    await f(world)
  } catch (error) {
    const done = world.trace.map((action) => `  ${JSON.stringify(action)}`).join("\n")
    throw new Error(`${error instanceof Error ? error.message : String(error)}\nafter\n${done}`, { cause: error })
  } finally {
    world.end()
  }
}

// Each takes a second: what goes wrong here takes several things to happen together.
describe("a Connection", () => {
  it("is in the state of its model after any steps", async () => {
    const happened = new Map<string, number>()
    await fc.assert(
      fc.asyncProperty(
        steps(fc.record({ step: anyStep, rests: fc.boolean() })),
        (steps) =>
          inWorld({ connections: 1, isLoose: false }, async (world) => {
            const model = new Model()
            const take = (step: Step) => {
              const action = world.do(step)
              if (action === undefined) return false
              model.apply(action)
              assert.deepEqual(world.glance, model.glance)
              return true
            }
            const rest = async () => {
              await world.rest()
              model.rest()
              world.assertInvariants()
              assert.deepEqual(world.snapshot, model.snapshot)
            }
            await rest()
            take(listAll)
            for (const { rests, step } of steps) {
              if (isAlone(step)) await rest()
              if (take(step) && (rests || isAlone(step))) await rest()
            }
            take(close)
            take(call)
            await rest()
            happened.set("actions", (happened.get("actions") ?? 0) + world.trace.length)
            for (const [what, count] of model.happened) happened.set(what, (happened.get(what) ?? 0) + count)
          })
      ),
      { numRuns: Number(process.env["RUNS"] ?? 300) }
    )
    console.log(happened)
  }, 600_000)

  it(
    "keeps to what must always hold, with several connections, at any distance, and in the midst of what it does",
    async () => {
      const step = fc.record({
        step: anyStep,
        /** How many turns pass then; undefined for until nothing happens any more. */
        turns: fc.constantFrom(0, 1, 2, 3, undefined),
        reaction: fc.oneof(
          { weight: 15, arbitrary: fc.constant(undefined) },
          { weight: 15, arbitrary: anyStep },
          fc.constant(close)
        )
      })
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: 3 }),
          steps(step),
          (connections, steps) =>
            inWorld({ connections, isLoose: true }, async (world) => {
              await world.rest()
              world.do(listAll)
              for (const { reaction, step, turns } of steps) {
                if (world.do(step, reaction) === undefined || turns === 0) {
                  continue
                }
                await world.rest(turns)
                if (turns === undefined) world.assertInvariants()
              }
              await world.rest()
              world.assertInvariants()
              world.do(close)
              world.do(call)
              await world.rest()
              world.assertInvariants()
            })
        ),
        { numRuns: Number(process.env["RUNS"] ?? 200) }
      )
    },
    600_000
  )
})
