/**
 * One half of a system: serves, or calls as it is told. Started by {@link Pair}.
 */
import { randomFillSync } from "node:crypto"
import { Latencies, Meter } from "./meter.ts"
import type { Command, Question, Report, Usage } from "./pair.ts"
import { cpuMicros, fillHeap } from "./support.ts"
import type { Client } from "./system.ts"
import { isSystemName, systems } from "./systems.ts"
import type { BytesOptions } from "./systems/effectCall.ts"

const usage = (): Usage => ({
  cpuMicros: cpuMicros(),
  peakRss: process.resourceUsage().maxRSS * 1024,
  rss: process.memoryUsage.rss()
})

/** Several calls at once, each with a payload of its own. */
const check = async (client: Client, sizes: ReadonlyArray<number>): Promise<string | undefined> => {
  const problems = await Promise.all(
    sizes.flatMap((size) => Array.from({ length: 8 }, () => size)).map(async (size) => {
      const payload = randomFillSync(new Uint8Array(size))
      const answer = await client.echo(payload.slice())
      return Buffer.compare(answer, payload) === 0
        ? undefined
        : `${size} random bytes came back as ${answer.length} others`
    })
  )
  return problems.find((problem) => problem !== undefined)
}

const execute = async (client: Client, command: Command): Promise<Report> => {
  if (command._tag === "Check") {
    const problem = await check(client, command.sizes).catch((error: unknown) => String(error))
    return { _tag: "Checked", problem }
  }
  const payload = randomFillSync(new Uint8Array(command.payloadBytes))
  const start = performance.now()
  const meter = new Meter(command.seconds)
  await client.run({ callers: command.callers, payload }, meter)
  const seconds = (performance.now() - start) / 1000
  return { _tag: "Ran", calls: meter.latencies.total, seconds, latencies: meter.latencies.counts }
}

/** The timer, in ms. */
const delay = 1

const timerLateness = (seconds: number): Promise<Uint32Array> =>
  new Promise((resolve) => {
    const late = new Latencies()
    const end = performance.now() + seconds * 1000
    const next = () => {
      const due = performance.now() + delay
      setTimeout(() => {
        const now = performance.now()
        // By the loop's clock it may have been time before it was by this one.
        late.add(Math.max(0, now - due))
        if (now < end) next()
        else resolve(late.counts)
      }, delay)
    }
    next()
  })

const [role, name = "", address = "", options = "{}"] = process.argv.slice(2)
if (!isSystemName(name)) throw new Error(`there is no system ${name}`)
// What the parent has written.
const system = await systems[name](JSON.parse(options) as BytesOptions)
const client = role === "server" ? undefined : await system.connect(address)
const reply = (answer: number | Uint32Array | Report) => process.send?.(answer)
// Otherwise one would go on after the driver has gone.
process.on("disconnect", () => process.exit())
process.on("message", (message: Command | Question) => {
  if (message._tag === "Usage") process.send?.(usage())
  else if (message._tag === "FillHeap") void fillHeap(message.megabytes).then(reply)
  else if (message._tag === "TimerLateness") void timerLateness(message.seconds).then(reply)
  else if (client !== undefined) void execute(client, message).then(reply)
})
process.send?.(role === "server" ? await system.serve() : "ready")
