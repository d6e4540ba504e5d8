/** What hostile clients call, and what is logged of them. */
import { Effect, Logger } from "effect"
import { HandlerMap, MethodKey } from "effect-call"

const component = "test/Hostile"
export const echo = MethodKey.make(component, "echo")
export const hang = MethodKey.make(component, "hang")
export const large = MethodKey.make(component, "large")
export const unknown = MethodKey.make(component, "no such method")

/** The size of what `large` answers. */
export const largeSize = 65_536

/** Handlers that count how many of them run, and how many have been called. */
export const makeHandlers = () => {
  const state = { running: 0, interrupted: 0, called: 0 }
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set(component, "echo", (args) => Effect.succeed(args)),
    HandlerMap.set(component, "hang", () =>
      Effect.suspend(() => {
        state.running++
        return Effect.never
      }).pipe(
        Effect.onInterrupt(() => Effect.sync(() => void state.interrupted++)),
        Effect.ensuring(Effect.sync(() => void state.running--))
      )),
    HandlerMap.set(component, "large", () =>
      Effect.sync(() => {
        state.called++
        return new Uint8Array(largeSize).fill(state.called)
      }))
  )
  return { handlers, state }
}

/** What is logged, by its text. */
export const makeLog = () => {
  const lines: Array<string> = []
  const layer = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
  return { lines, layer }
}

export const ok = Buffer.from("ok")
