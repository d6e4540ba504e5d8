import { assert, describe, it } from "@effect/vitest"
import { type BalancerRow, balancersChart } from "./balancersChart.ts"
import { type Contender, contenders, type Figures, type Scenario, simulate } from "./simulation.ts"

const alike = [1, 1, 1, 1, 1]

/** What a short run says of each balancer. */
const figuresOf = (
  scenario: Omit<Scenario, "title">,
  over: { readonly clients?: number; readonly load?: number; readonly seed?: number } = {}
) => {
  const run = (contender: Contender): Figures =>
    simulate({
      scenario: { title: "", ...scenario },
      contender,
      clients: 10,
      duration: 10_000,
      settled: 1000,
      load: 0.7,
      seed: 1,
      ...over
    })
  return {
    roundRobin: run(contenders.roundRobin),
    weighted: run(contenders.weighted),
    leastPending: run(contenders.leastPending),
    peakEwma: run(contenders.peakEwma)
  }
}

describe("the simulation", () => {
  it("gives the same figures for the same seed, and others for another", () => {
    const { peakEwma } = figuresOf({ speeds: alike })
    assert.deepStrictEqual(figuresOf({ speeds: alike }).peakEwma, peakEwma)
    assert.notDeepEqual(figuresOf({ speeds: alike }, { seed: 2 }).peakEwma, peakEwma)
  })

  it("has an empty replica answer as fast as it works", () => {
    // Nearly nothing to do: the median of an exponential distribution is ln 2 times its mean.
    const { roundRobin } = figuresOf({ speeds: alike }, { load: 0.02 })
    assert.closeTo(roundRobin.p50, 10 * Math.LN2, 0.5)
    assert.closeTo(roundRobin.p99, 10 * Math.log(100), 6)
  })

  it("shows that replicas that are alike need no more than taking turns", () => {
    const { roundRobin, ...others } = figuresOf({ speeds: alike })
    for (const { p99, spread } of Object.values(others)) {
      assert.closeTo(p99 / roundRobin.p99, 1, 0.15)
      assert.isBelow(spread, 1.2)
    }
  })

  it("shows that all others but turns keep calls from piling up at a slow replica", () => {
    const { roundRobin, ...others } = figuresOf({ speeds: [0.4, 1, 1, 1, 1.6] })
    assert.isAbove(roundRobin.p99, 1000)
    for (const { p99 } of Object.values(others)) assert.isBelow(p99, roundRobin.p99 / 5)
    assert.isBelow(others.peakEwma.p99, 100)
    assert.isBelow(others.peakEwma.spread, 1.25)
  })

  it("shows that balancers that count pending calls leave a replica that stalls", () => {
    const { leastPending, peakEwma, roundRobin } = figuresOf({ speeds: alike, stalls: { from: 4000, to: 6000 } })
    // 1400 calls come each second, and a fifth of them goes there.
    assert.closeTo(roundRobin.wasted, 560, 60)
    assert.isBelow(leastPending.wasted, 60)
    assert.isBelow(peakEwma.wasted, 30)
    assert.isAbove(roundRobin.p99, 1000)
    for (const { p99 } of [leastPending, peakEwma]) assert.isBelow(p99, 100)
  })

  it("shows that a replica that fails at once gets no more than twice its share", () => {
    const { leastPending, peakEwma, roundRobin } = figuresOf({ speeds: alike, fails: { from: 4000, to: 6000 } })
    for (const { wasted } of [leastPending, peakEwma]) assert.isBelow(wasted, 2.2 * roundRobin.wasted)
  })

  it("shows that a replica that starts slowly is not flooded, but by turns", () => {
    const { leastPending, peakEwma, roundRobin, weighted } = figuresOf({
      speeds: alike,
      gone: { from: 2000, to: 3000 }
    })
    for (const { p99 } of [leastPending, peakEwma, weighted]) assert.isBelow(p99, roundRobin.p99 / 3)
  })
})

describe("its chart", () => {
  const row = (scenario: string, clients: number, balancer: string, p99: number): BalancerRow => ({
    scenario,
    clients,
    balancer,
    calls: 1,
    p50: 1,
    p99,
    spread: 1,
    wasted: 0
  })

  it("has a bar and a figure for each row, within the picture", () => {
    const rows = ["alike", "one <stalls>"].flatMap((scenario, column) =>
      [1, 100].flatMap((clients) =>
        ["roundRobin", "peakEwma"].map((balancer, line) =>
          row(scenario, clients, balancer, 10 ** (1 + 2 * column + line))
        )
      )
    )
    const svg = balancersChart(rows)
    assert.include(svg, "one &lt;stalls&gt;")
    const bars = [...svg.matchAll(/<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="11" fill="([^"]+)"\/>/g)]
    assert.lengthOf(bars, rows.length)
    const [, width, height] = /width="(\d+)" height="(\d+)"/.exec(svg) ?? []
    for (const [, x, y, length] of bars) {
      assert.isBelow(Number(x) + Number(length) + 45, Number(width))
      assert.isBelow(Number(y) + 11, Number(height))
    }
    for (const label of ["10 ms", "100 ms", "1.0 s", "10.0 s"]) assert.include(svg, `>${label}<`)
  })

  it("says where there is no figure", () => {
    assert.include(balancersChart([row("alike", 1, "roundRobin", NaN)]), "no figure")
  })
})
