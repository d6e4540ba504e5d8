/**
 * A chart of the simulation of balancers: p99 of each, a panel for each scenario and number of clients, with a
 * logarithmic scale that all panels share.
 */
import { box, margin, page, text, width } from "./chart.ts"
import type { Figures } from "./simulation.ts"

export interface BalancerRow extends Figures {
  readonly scenario: string
  readonly clients: number
  readonly balancer: string
}

const nameWidth = 110
const barHeight = 11
const lineHeight = 15
const labelWidth = 52

/** The default stands out: the others are compared with it. */
const colorOf = (balancer: string): string => balancer === "roundRobin" ? "#8c959f" : "#0969da"

const label = (millis: number): string => millis < 1000 ? `${Math.round(millis)} ms` : `${(millis / 1000).toFixed(1)} s`

export const balancersChart = (rows: ReadonlyArray<BalancerRow>): string => {
  const scenarios = [...new Set(rows.map(({ scenario }) => scenario))]
  const clients = [...new Set(rows.map(({ clients }) => clients))]
  const balancers = [...new Set(rows.map(({ balancer }) => balancer))]
  const figures = rows.map(({ p99 }) => p99).filter((p99) => p99 > 0 && Number.isFinite(p99))
  const least = Math.min(...figures, 1000) / 2
  const most = Math.max(...figures, 2 * least)
  const left = margin + nameWidth
  const columnWidth = (width - left - margin) / Math.max(1, scenarios.length)
  const longest = columnWidth - labelWidth
  const top = 84
  const panelHeight = 24 + balancers.length * lineHeight + 14

  const panels = clients.flatMap((clients, line) => {
    const y = top + line * panelHeight
    return [
      text(margin, y + 12, `${clients} ${clients === 1 ? "client" : "clients"}`, "panel"),
      ...balancers.map((balancer, index) => text(left - 8, y + 24 + index * lineHeight + 10, balancer, "name")),
      ...scenarios.flatMap((scenario, column) => {
        const x = left + column * columnWidth
        return [
          text(x, y + 12, scenario, "note"),
          ...balancers.flatMap((balancer, index) => {
            const row = rows.find((row) =>
              row.scenario === scenario && row.clients === clients && row.balancer === balancer
            )
            const barTop = y + 24 + index * lineHeight
            if (row === undefined || !(row.p99 > 0)) return [text(x + 5, barTop + 10, "no figure", "note")]
            const length = longest * Math.log(row.p99 / least) / Math.log(most / least)
            return [
              box(x, barTop, length, barHeight, colorOf(balancer)),
              text(x + length + 5, barTop + 10, label(row.p99), "figure")
            ]
          }),
          box(x - 1, y + 22, 1, balancers.length * lineHeight, "#59636e")
        ]
      })
    ]
  })

  return page("How long the slowest 1 % of calls take (p99)", top + clients.length * panelHeight, [
    text(margin, 34, "How long the slowest 1 % of calls take (p99), by balancer", "title"),
    text(margin, 60, "Shorter is better. The scale is logarithmic: twice the length is not twice the time.", "note"),
    ...panels
  ])
}
