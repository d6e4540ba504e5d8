/**
 * What the soak is asked for.
 */
import { randomInt } from "node:crypto"
import { parseArgs } from "node:util"

export interface SoakOptions {
  /** For how long there are faults. */
  readonly seconds: number
  /** Decides which faults there are, in which order. */
  readonly seed: number
  /** How many fibers call, over all Connections. */
  readonly callers: number
  readonly json: boolean
}

const numberOf = (option: string, text: string, isRight: (value: number) => boolean, expected: string): number => {
  const value = text.trim() === "" ? NaN : Number(text)
  if (isRight(value)) return value
  throw new Error(`--${option}: expected ${expected}, got "${text}"`)
}

/** The options in a command line. Throws an Error that says what is wrong with which of them. */
export const parseOptions = (args: ReadonlyArray<string>): SoakOptions => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seconds: { type: "string", default: "30" },
      seed: { type: "string", default: String(randomInt(2 ** 32)) },
      callers: { type: "string", default: "300" },
      json: { type: "boolean", default: false }
    }
  })
  return {
    seconds: numberOf("seconds", values.seconds, (value) => value > 0 && value < Infinity, "a number above 0"),
    seed: numberOf(
      "seed",
      values.seed,
      (value) => Number.isInteger(value) && value >= 0 && value < 2 ** 32,
      "a whole number from 0 to 4294967295"
    ),
    callers: numberOf(
      "callers",
      values.callers,
      (value) => Number.isSafeInteger(value) && value >= 1,
      "a whole number from 1 on"
    ),
    json: values.json
  }
}
