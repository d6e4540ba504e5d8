import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ExecutionLog, Executions, readExecutions } from "./executions.ts"
import { type Ending, type Executed, Ledger } from "./ledger.ts"
import type { Plan } from "./plan.ts"
import { type Check, Violations } from "./violations.ts"

const plan: Plan = {
  api: "bytes",
  method: "echo",
  size: 16,
  work: 0,
  timeout: 100,
  within: false,
  interruptAfter: undefined,
  shardKey: undefined,
  waitForReady: false
}

const ending = (executed: Executed): Ending => ({ kind: executed, executed })

const make = () => {
  const violations = new Violations()
  const clock = { now: 0 }
  const ledger = new Ledger(violations, clock)
  const begin = (connection = 1, millis = 100) => ledger.begin(plan, connection, millis)
  const checkLateAt = (now: number) => {
    clock.now = now
    ledger.checkLate()
  }
  const found = () => violations.told.map(({ check, id }): [Check, number | undefined] => [check, id])
  return { violations, clock, ledger, begin, checkLateAt, found }
}

describe("the account of calls", () => {
  it("numbers calls from 1 on, and counts how they end", () => {
    const { begin, found, ledger } = make()
    const calls = Array.from({ length: 3000 }, () => begin())
    assert.deepEqual([calls[0]?.id, calls.at(-1)?.id, ledger.started, ledger.open.size], [1, 3000, 3000, 3000])
    for (const call of calls) ledger.end(call, ending(call.id % 3 === 0 ? "once" : "perhaps"))
    assert.deepEqual(Object.fromEntries(ledger.endings), { once: 1000, perhaps: 2000 })
    assert.equal(ledger.open.size, 0)
    assert.deepEqual(found(), [])
  })

  it("finds a call that ends twice", () => {
    const { begin, found, ledger } = make()
    const call = begin()
    ledger.end(call, ending("once"))
    ledger.end(call, ending("perhaps"))
    assert.deepEqual(found(), [["endedTwice", 1]])
    assert.deepEqual(Object.fromEntries(ledger.endings), { once: 1 })
  })

  it("finds an end that such a call cannot have", () => {
    const { begin, ledger, violations } = make()
    ledger.end(begin(), { kind: "answered", executed: "once", problem: "another call's bytes" })
    assert.match(
      violations.told[0]!.text,
      /call 1 \(bytes, echo, 16 B, 100 ms\) ended with answered: another call's bytes/
    )
  })

  it("finds calls that are late, once each", () => {
    const { begin, checkLateAt, clock, found, ledger } = make()
    begin(1, 100)
    begin(1, Infinity)
    clock.now = 50
    begin(1, 250)
    checkLateAt(100)
    assert.deepEqual(found(), [])
    checkLateAt(101)
    checkLateAt(200)
    assert.deepEqual(found(), [["neverEnded", 1]])
    checkLateAt(301)
    assert.deepEqual(found(), [["neverEnded", 1], ["neverEnded", 3]])
    ledger.checkOpen()
    assert.deepEqual(found().slice(2), [["neverEnded", 2]])
  })

  it("gives calls a limit that had none: the calls of a Connection that closes, or all when everything is healed", () => {
    const { begin, checkLateAt, found, ledger } = make()
    begin(1, Infinity)
    begin(2, Infinity)
    begin(2, 50)
    ledger.limitAll(200, 2)
    checkLateAt(51)
    assert.deepEqual(found(), [["neverEnded", 3]])
    checkLateAt(201)
    assert.deepEqual(found().slice(1), [["neverEnded", 2]])
    ledger.limitAll(100)
    checkLateAt(302)
    assert.deepEqual(found().slice(2), [["neverEnded", 1]])
  })
})

describe("what was executed", () => {
  it("has to be what callers were told", () => {
    const { begin, found, ledger } = make()
    const executions = new Executions()
    const told: ReadonlyArray<[Executed, number]> = [
      ["once", 1],
      ["once", 0],
      ["perhaps", 0],
      ["perhaps", 1],
      ["never", 0],
      ["never", 1],
      ["unknown", 0],
      ["perhaps", 2]
    ]
    for (const [executed, times] of told) {
      const call = begin()
      ledger.end(call, ending(executed))
      for (let time = 0; time < times; time++) executions.add(10 * call.id + time, Uint32Array.of(call.id))
    }
    ledger.checkExecutions(executions)
    assert.deepEqual(found(), [["answeredUnexecuted", 2], ["executedAfterAll", 6], ["executedTwice", 8]])
    assert.deepEqual(executions.whoExecuted(8), [80, 81])
  })

  it("is read from what each process has noted", () => {
    const directory = mkdtempSync(join(tmpdir(), "executions-"))
    for (const [stamp, ids] of [[1, [1, 2, 70_000]], [2, []], [3, [2, 4_294_967_295]]] as const) {
      const log = new ExecutionLog(directory, stamp)
      for (const id of ids) log.add(id)
      log.close()
    }
    const executions = readExecutions(directory)
    rmSync(directory, { recursive: true })
    assert.deepEqual([executions.processes, executions.total], [3, 5])
    const counts = executions.counts(70_000)
    assert.deepEqual([counts.length, counts[0], counts[1], counts[2], counts[70_000]], [70_001, 0, 1, 2, 1])
    assert.deepEqual(executions.whoExecuted(2), [1, 3])
  })
})

describe("violations", () => {
  it("are all counted, and the first of each kind told", () => {
    const heard: Array<string> = []
    const violations = new Violations(({ text }) => heard.push(text))
    for (let i = 0; i < 25; i++) violations.add("wrongAnswers", `wrong ${i}`)
    violations.add("handlersLeft", "left")
    assert.deepEqual([violations.of("wrongAnswers"), violations.of("fibersLeft"), violations.total], [25, 0, 26])
    assert.equal(violations.told.length, 11)
    assert.deepEqual(heard, violations.told.map(({ text }) => text))
  })
})
