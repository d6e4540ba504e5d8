/**
 * The systems by name. Each is loaded only by the processes that run it.
 */
import { fail } from "../support.ts"
import type { StreamSystem } from "./system.ts"

export const streamSystems = {
  raw: async () => (await import("./systems/raw.ts")).raw({ withCredit: false }),
  "raw-credit": async () => (await import("./systems/raw.ts")).raw({ withCredit: true }),
  "effect-rpc": async () => (await import("./systems/effectRpc.ts")).effectRpc,
  "grpc-js": async () => (await import("./systems/grpc.ts")).grpc
} as const satisfies Record<string, () => Promise<StreamSystem>>

export type StreamSystemName = keyof typeof streamSystems

export const isStreamSystemName = (name: string): name is StreamSystemName => Object.hasOwn(streamSystems, name)

export const streamSystemNames = Object.keys(streamSystems).filter(isStreamSystemName)

/** The systems of an option, separated by commas. Others end the program. */
export const streamSystemsOf = (option: string, text: string): ReadonlyArray<StreamSystemName> =>
  text.split(",").map((name) =>
    isStreamSystemName(name)
      ? name
      : fail(`--${option}: expected one of ${streamSystemNames.join(", ")}; got "${name}"`)
  )
