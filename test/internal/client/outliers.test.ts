import { describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { Outliers } from "../../../src/internal/client/outliers.ts"
import type { Pool } from "../../../src/internal/client/pool.ts"

const failures = 2
const duration = 10
const maxDuration = 25

/** Endpoints of which some are listed, and calls to them, as a client has them. */
class World {
  readonly outliers = new Outliers({ failures, duration, maxDuration, ejectsShards: true })
  readonly pools = ["a", "b", "c", "d", "e"].map((address) => ({
    address,
    failuresInARow: 0,
    state: "Active"
  }))
  now = 0
  /** How many are listed: the first ones. */
  listed = this.pools.length
  /** What is to be avoided, asked for again only where something is said to have changed, as a client does it. */
  private avoided: Set<string> | undefined = undefined

  /** It looks at the address, the failures and the state of a Pool, and at nothing else. */
  pool(index: number): Pool {
    return this.pools[index % this.listed] as unknown as Pool
  }

  private avoidedUntil = Infinity

  get avoid(): ReadonlySet<string> {
    if (this.avoided === undefined || this.avoidedUntil <= this.now) {
      this.avoided = new Set()
      this.avoidedUntil = this.outliers.addTo(this.avoided, this.now)
    }
    return this.avoided
  }

  fail(pool: Pool, isDialing: boolean): boolean {
    Object.assign(pool, { state: isDialing ? "Dialing" : "Active" })
    pool.failuresInARow++
    return this.changes(this.outliers.failed(pool, this.listed, this.now))
  }

  answer(pool: Pool): boolean {
    pool.failuresInARow = 0
    return this.changes(this.outliers.forget(pool))
  }

  send(pool: Pool): boolean {
    return this.changes(this.outliers.sent(pool, this.now))
  }

  dial(pool: Pool): boolean {
    return this.changes(this.outliers.dialed(pool, this.now))
  }

  connect(pool: Pool): boolean {
    return this.changes(this.outliers.connected(pool, this.now))
  }

  goDown(pool: Pool): boolean {
    return this.changes(this.outliers.down(pool, this.now))
  }

  list(count: number): void {
    for (let index = count; index < this.listed; index++) this.answer(this.pool(index))
    this.listed = count
    this.outliers.limitTo(count)
    this.changes(true)
  }

  private changes(changed: boolean): boolean {
    if (changed) this.avoided = undefined
    return changed
  }
}

/** What is known of an endpoint that is left alone, or on trial. */
interface Known {
  duration: number
  until: number
  /** Whether a call was sent since. */
  isTried: boolean
  /** Whether it was dialed since, for no call. */
  isDialed: boolean
}

const which = fc.nat(4)
const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ _tag: fc.constant("fail" as const), which, isDialing: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ _tag: fc.constant("answer" as const), which }) },
  // One that is called though it is left alone, where a balancer has no other, or one that is not.
  { weight: 4, arbitrary: fc.record({ _tag: fc.constant("send" as const), which, isForced: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ _tag: fc.constant("dial" as const), which }) },
  { weight: 2, arbitrary: fc.record({ _tag: fc.constantFrom("connect" as const, "goDown" as const), which }) },
  { weight: 4, arbitrary: fc.record({ _tag: fc.constant("pass" as const), millis: fc.integer({ min: 1, max: 15 }) }) },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("list" as const), count: fc.integer({ min: 1, max: 5 }) }) }
)

describe("endpoints that are left alone", () => {
  it("are no more than half, get one call or dial at a time, are used again when they answer, and wait twice as long up to the longest", () => {
    const seen = { trials: 0, dials: 0, connected: 0, down: 0, doubled: 0, longest: 0, limited: 0, full: 0 }
    fc.assert(
      fc.property(fc.noBias(fc.array(step, { maxLength: 100, size: "max" })), (steps) => {
        const world = new World()
        const known = new Map<Pool, Known>()
        for (const step of steps) {
          switch (step._tag) {
            case "fail": {
              const pool = world.pool(step.which)
              const before = known.get(pool)
              const isChange = before === undefined
                ? pool.failuresInARow + 1 >= failures && (known.size + 1) * 2 <= world.listed
                : before.isTried
              if (before === undefined && pool.failuresInARow + 1 >= failures && !isChange) seen.full++
              assert.equal(world.fail(pool, step.isDialing), isChange)
              if (!isChange) break
              const next = before === undefined ? duration : Math.min(before.duration * 2, maxDuration)
              if (before !== undefined) seen.doubled++
              if (next === maxDuration) seen.longest++
              const isDialed = before === undefined && step.isDialing
              known.set(pool, { duration: next, until: world.now + next, isTried: false, isDialed })
              break
            }
            case "answer": {
              const pool = world.pool(step.which)
              assert.equal(world.answer(pool), known.delete(pool))
              break
            }
            case "send": {
              const pool = world.pool(step.which)
              if (!step.isForced && world.avoid.has(pool.address)) break
              const before = known.get(pool)
              const isTrial = before !== undefined && before.until <= world.now
              assert.equal(world.send(pool), isTrial)
              if (before === undefined) break
              before.isTried = true
              before.isDialed = false
              if (!isTrial) break
              seen.trials++
              // No other until it has had as much time as it was left alone for.
              before.until = world.now + before.duration
              break
            }
            case "dial": {
              const pool = world.pool(step.which)
              const before = known.get(pool)
              const isTrial = before !== undefined && before.until <= world.now
              assert.equal(world.dial(pool), isTrial)
              if (!isTrial) break
              seen.dials++
              before.isDialed = true
              before.isTried = false
              before.until = world.now + before.duration
              break
            }
            case "connect": {
              const pool = world.pool(step.which)
              const before = known.get(pool)
              assert.equal(world.connect(pool), before?.isDialed === true)
              if (before?.isDialed !== true) break
              seen.connected++
              before.until = world.now
              break
            }
            case "goDown": {
              const pool = world.pool(step.which)
              const before = known.get(pool)
              assert.equal(world.goDown(pool), before?.isDialed === true)
              if (before?.isDialed !== true) break
              seen.down++
              const next = Math.min(before.duration * 2, maxDuration)
              known.set(pool, { duration: next, until: world.now + next, isTried: false, isDialed: false })
              break
            }
            case "pass":
              world.now += step.millis
              break
            case "list": {
              for (let index = step.count; index < world.listed; index++) known.delete(world.pool(index))
              // Those that were left alone first.
              for (const pool of known.keys()) {
                if (known.size * 2 <= step.count) break
                known.delete(pool)
                seen.limited++
              }
              world.list(step.count)
            }
          }
          assert.equal(world.outliers.size, known.size)
          assert.ok(known.size * 2 <= world.listed)
          const alone = [...known].filter(([, { until }]) => until > world.now).map(([pool]) => pool)
          assert.deepEqual(
            world.pools.filter((_, index) =>
              index < world.listed && world.outliers.isLeftAlone(world.pool(index), world.now)
            ).length,
            alone.length
          )
          for (const pool of alone) assert.ok(world.outliers.isLeftAlone(pool, world.now))
          for (const pool of known.keys()) assert.ok(world.outliers.has(pool))
          assert.deepEqual([...world.avoid].sort(), alone.map(({ address }) => address).sort())
        }
      }),
      { numRuns: 300 }
    )
    for (const [what, count] of Object.entries(seen)) assert.ok(count > 5, `${what}: ${count}`)
  })
})
