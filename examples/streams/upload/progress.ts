/**
 * A progress bar: one line that is drawn again and again where the output is a terminal, and a line for each quarter
 * where it is not.
 */
import { Effect, Terminal } from "effect"
import { TerminalCapabilities } from "effect/cli"

/** Makes a function that shows how much of `total` is done. */
export const progress = Effect.fnUntraced(function*(title: string, total: number) {
  const terminal = yield* Terminal.Terminal
  const { canAnimate } = yield* TerminalCapabilities.TerminalCapabilities
  const steps = canAnimate ? 100 : 4
  let shown = 0

  const bar = Effect.fnUntraced(function*(percent: number) {
    const width = Math.max(10, Math.min(60, (yield* terminal.columns) - title.length - 10))
    const full = Math.round(width * percent / 100)
    const line = `${title} ${"█".repeat(full)}${"░".repeat(width - full)} ${percent} %`
    yield* terminal.display(`\r${line}\x1b[K${percent === 100 ? "\n" : ""}`)
  })
  const plain = (percent: number) => terminal.display(`${title} ${percent} %\n`)

  return (done: number) => {
    const step = Math.floor(steps * done / total)
    if (step <= shown) return Effect.void
    shown = step
    return (canAnimate ? bar : plain)(Math.floor(100 * step / steps))
  }
})
