/**
 * A chart of the echo benchmark's rates for the README: an SVG without scripts or fonts of its own.
 *
 * There is one panel for each payload, all at one concurrency, and each has a scale of its own that begins at 0: bars
 * can be compared within a panel, and not between two. It is drawn on white. GitHub shows it on light and on dark
 * pages, and what an SVG can ask for is the browser's preference, not the theme that GitHub was set to.
 */
import type { Row } from "./report.ts"
import { sizeName } from "./support.ts"
import type { SystemName } from "./systems.ts"

type Family = "baseline" | "effectCall" | "peer"

/** What each system is, in the order in which they are drawn. */
const families: Record<SystemName, Family> = {
  raw: "baseline",
  "raw-loaded": "baseline",
  "raw-tls": "baseline",
  bytes: "effectCall",
  typed: "effectCall",
  "typed-traced": "effectCall",
  "bytes-timeout": "effectCall",
  "bytes-uncounted": "effectCall",
  "bytes-unix": "effectCall",
  "typed-unix": "effectCall",
  "typed-traced-unix": "effectCall",
  "bytes-mtls": "effectCall",
  "typed-mtls": "effectCall",
  "typed-traced-mtls": "effectCall",
  "effect-rpc": "peer",
  "effect-rpc-traced": "peer",
  "effect-rpc-ndjson": "peer",
  "effect-rpc-ndjson-traced": "peer",
  "grpc-js": "peer",
  "connect-node": "peer",
  undici: "peer"
}
const order = Object.keys(families)

const looks: Record<Family, { readonly color: string; readonly label: string }> = {
  baseline: { color: "#8c959f", label: "node:net or node:tls alone" },
  effectCall: { color: "#0969da", label: "effect-call" },
  peer: { color: "#d4691e", label: "others" }
}

/**
 * All in pixels. Texts are not measured: a character is taken for as wide as the widest fonts for pages have it on
 * average.
 */
export const width = 960
export const margin = 20
const charWidth = 7
const barHeight = 14
const lineHeight = 20
const mostColumns = 3
const columnGap = 12
/** Room for the figures behind the longest bar. */
const labelWidth = 15 * charWidth

/** The concurrency that is drawn, where it was measured. */
const usualConcurrency = 64

const escapes: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;", "'": "&#39;" }
const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => escapes[character] ?? character)

export const text = (x: number, y: number, content: string, kind: string): string =>
  `<text x="${round(x)}" y="${round(y)}" class="${kind}">${escape(content)}</text>`

export const box = (x: number, y: number, width: number, height: number, color: string): string => {
  const place = `x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}"`
  return `<rect ${place} fill="${color}"/>`
}

const round = (pixels: number): number => Math.round(pixels * 100) / 100

const styles = `
text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.panel { font-size: 13px; font-weight: 600 }
.name, .end { text-anchor: end }
.note { fill: #59636e }
`

/** The picture around what is drawn, which is `height` high. */
export const page = (title: string, height: number, drawn: ReadonlyArray<string>): string =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${escape(title)}</title>`,
    `<style>${styles}</style>`,
    `<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="10" fill="#ffffff" stroke="#d1d9e0"/>`,
    ...drawn,
    "</svg>\n"
  ].join("\n")

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((total, number) => total + number, 0)

/** The legend: what the colours mean. */
const legend = (shown: ReadonlyArray<Family>, y: number): ReadonlyArray<string> => {
  const widths = shown.map((family) => 18 + looks[family].label.length * charWidth + 20)
  return shown.flatMap((family, index) => {
    const { color, label } = looks[family]
    const x = margin + sum(widths.slice(0, index))
    return [box(x, y - 10, 12, 12, color), text(x + 18, y, label, "note")]
  })
}

/** The rows may have been read from a file, and a system that is not known is still drawn. */
const familyOf = (system: SystemName): Family => families[system] ?? "peer"

const placeOf = (system: string): number => {
  const place = order.indexOf(system)
  return place < 0 ? order.length : place
}

/** One bar and what is written behind it. */
const bar = (row: Row | undefined, x: number, y: number, widthOf: (rate: number) => number): ReadonlyArray<string> => {
  if (row === undefined || !Number.isFinite(row.callsPerSecond)) return [text(x + 6, y + 11, "no figure", "note")]
  const { callsPerSecond, ratioToRaw, system } = row
  const { color } = looks[familyOf(system)]
  const length = widthOf(callsPerSecond)
  const rate = Math.round(callsPerSecond).toLocaleString("en-US")
  const ratio = ratioToRaw === null || !Number.isFinite(ratioToRaw) ? "" : ` ×${ratioToRaw.toFixed(2)}`
  return [box(x, y, length, barHeight, color), text(x + length + 6, y + 11, `${rate}${ratio}`, "figure")]
}

/** The rates of all systems at 64 callers, or at the most that there were, compared with the raw loop's. */
export const chart = (rows: ReadonlyArray<Row>): string => {
  const concurrencies = rows.map(({ concurrency }) => concurrency)
  if (concurrencies.length === 0) {
    const none = "No figures: nothing was measured."
    return page(none, 60, [text(margin, 35, none, "note")])
  }
  const concurrency = concurrencies.includes(usualConcurrency) ? usualConcurrency : Math.max(...concurrencies)
  const drawn = rows.filter((row) => row.concurrency === concurrency)
  const systems = [...new Set(drawn.map(({ system }) => system))].sort((a, b) => placeOf(a) - placeOf(b))
  const payloads = [...new Set(drawn.map(({ payloadBytes }) => payloadBytes))].sort((a, b) => a - b)

  const nameWidth = Math.max(...systems.map((system) => system.length)) * charWidth
  const columns = Math.min(mostColumns, payloads.length)
  const left = margin + nameWidth + 8
  const columnWidth = (width - left - margin + columnGap) / columns
  const longest = Math.max(1, columnWidth - columnGap - labelWidth)
  const panelHeight = 26 + systems.length * lineHeight + 16
  const top = 84

  const panels = payloads.flatMap((payloadBytes, index) => {
    const x = left + index % columns * columnWidth
    const y = top + Math.floor(index / columns) * panelHeight
    const figures = drawn.filter((row) => row.payloadBytes === payloadBytes)
    const most = Math.max(...figures.map(({ callsPerSecond }) => callsPerSecond).filter(Number.isFinite))
    const widthOf = (rate: number) => most > 0 ? rate / most * longest : 0
    return [
      text(x, y + 12, sizeName(payloadBytes), "panel"),
      ...systems.flatMap((system, line) => {
        const lineTop = y + 26 + line * lineHeight
        return [
          ...(index % columns === 0 ? [text(left - 8, lineTop + 11, system, "name")] : []),
          ...bar(figures.find((row) => row.system === system), x, lineTop, widthOf)
        ]
      }),
      box(x - 1, y + 24, 1, systems.length * lineHeight, "#59636e")
    ]
  })

  const callers = `${concurrency} ${concurrency === 1 ? "caller" : "callers"}`
  const title = `Echo of ${payloads.map(sizeName).join(", ")} at ${callers}: calls per second`
  const hasRatios = drawn.some(({ ratioToRaw }) => ratioToRaw !== null)
  const notes = [
    "Longer is better.",
    ...(payloads.length > 1 ? ["Each payload has its own scale."] : []),
    ...(hasRatios ? ["× is the ratio to raw."] : [])
  ]
  const shown = [...new Set(systems.map(familyOf))]
  return page(title, top + Math.ceil(payloads.length / columns) * panelHeight, [
    text(margin, 34, title, "title"),
    ...legend(shown, 60),
    text(width - margin, 60, notes.join(" "), "note end"),
    ...panels
  ])
}
