/**
 * Which balancer is best when replicas differ, stall and restart: a simulation in virtual time (`simulation.ts`).
 *
 * `node test/benchmark/balancers.ts [--clients 1,10,100,1000] [--load 0.7] [--seconds 40] [--seed 1] [--svg
 * balancers.svg] [--json] [--save]`
 *
 * Ten replicas, or two; all clients together ask for `--load` of what they can do. What comes in the first five seconds
 * is not counted. The same seed gives the same figures on every machine.
 */
import { writeFile } from "node:fs/promises"
import { type BalancerRow, balancersChart } from "./balancersChart.ts"
import { block, save } from "./results.ts"
import { type Contender, contenders, type Scenario, scenarios, simulate } from "./simulation.ts"
import { count, counts, number, parse, table } from "./support.ts"

const millis = (value: number): string => value < 100 ? value.toFixed(1) : value.toFixed(0)

const main = async () => {
  const values = parse({
    clients: { type: "string", default: "1,10,100,1000" },
    load: { type: "string", default: "0.7" },
    seconds: { type: "string", default: "40" },
    seed: { type: "string", default: "1" },
    svg: { type: "string" },
    json: { type: "boolean", default: false },
    save: { type: "boolean", default: false }
  })
  const load = number("load", values.load)
  const duration = 1000 * number("seconds", values.seconds)
  const seed = count("seed", values.seed)
  const rows: Array<BalancerRow> = []
  for (const scenario of Object.values<Scenario>(scenarios)) {
    for (const clients of counts("clients", values.clients)) {
      for (const [balancer, contender] of Object.entries<Contender>(contenders)) {
        const figures = simulate({ scenario, contender, clients, duration, settled: 5000, load, seed })
        rows.push({ scenario: scenario.title, clients, balancer, ...figures })
      }
    }
  }
  const svg = values.svg ?? (values.save ? new URL("balancers.svg", import.meta.url) : undefined)
  if (svg !== undefined) {
    // Of calls that fail it matters how many did, and not how long the others took.
    const failing = Object.values<Scenario>(scenarios).filter(({ fails }) => fails !== undefined).map(({ title }) =>
      title
    )
    await writeFile(svg, balancersChart(rows.filter(({ scenario }) => !failing.includes(scenario))))
  }
  if (values.json) return console.log(JSON.stringify(rows))
  const blocks = Object.values<Scenario>(scenarios).map(({ fails, stalls, title }) => {
    const wasted = stalls !== undefined ? ["stuck"] : fails !== undefined ? ["failed"] : []
    const ours = rows.filter(({ scenario }) => scenario === title)
    const clients = [...new Set(ours.map(({ clients }) => clients))]
    const columns = clients.flatMap(() => ["p50", "p99", "spread", ...wasted])
    const heads = clients.flatMap((clients) => [
      "",
      `${clients} ${clients === 1 ? "client" : "clients"}`,
      "",
      ...wasted.map(() => "")
    ])
    return table(
      [title, ...heads],
      [
        ["", ...columns],
        ...Object.keys(contenders).map((name) => [
          name,
          ...ours.filter(({ balancer }) => balancer === name).flatMap(({ p50, p99, spread, wasted: count }) => [
            millis(p50),
            millis(p99),
            spread.toFixed(2),
            ...wasted.map(() => String(count))
          ])
        ])
      ]
    )
  })
  const text = blocks.join("\n\n")
  console.log(text)
  if (values.save) save("balancers", block(text))
}

await main()
