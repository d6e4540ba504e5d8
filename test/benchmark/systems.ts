/**
 * The systems by name. Each is loaded only by the processes that run it.
 */
import type { System } from "./system.ts"
import type { BytesOptions } from "./systems/effectCall.ts"

export const systems = {
  raw: async () => (await import("./systems/raw.ts")).raw,
  "raw-tls": async () => (await import("./systems/rawTls.ts")).rawTls,
  // The same in a process that has loaded what an Effect application does: full collections take the longer the larger
  // the heap is.
  "raw-loaded": async () => {
    await Promise.all([import("effect"), import("effect-call")])
    return (await import("./systems/raw.ts")).raw
  },
  // With other options it is what `options.ts` measures.
  bytes: async (options?: BytesOptions) => (await import("./systems/effectCall.ts")).bytes("tcp", options),
  typed: async () => (await import("./systems/effectCall.ts")).typed("tcp", { tracing: false }),
  "typed-traced": async () => (await import("./systems/effectCall.ts")).typed("tcp", { tracing: true }),
  "bytes-unix": async () => (await import("./systems/effectCall.ts")).bytes("unix"),
  "typed-unix": async () => (await import("./systems/effectCall.ts")).typed("unix", { tracing: false }),
  "typed-traced-unix": async () => (await import("./systems/effectCall.ts")).typed("unix", { tracing: true }),
  "bytes-mtls": async () => (await import("./systems/effectCall.ts")).bytes("mtls"),
  "typed-mtls": async () => (await import("./systems/effectCall.ts")).typed("mtls", { tracing: false }),
  "typed-traced-mtls": async () => (await import("./systems/effectCall.ts")).typed("mtls", { tracing: true }),
  "bytes-timeout": async () => (await import("./systems/effectCall.ts")).bytes("tcp", { timeout: "30 seconds" }),
  "bytes-uncounted": async () => (await import("./systems/effectCall.ts")).bytes("tcp", { metrics: false }),
  "effect-rpc": async () => (await import("./systems/effectRpc.ts")).effectRpc("binary", { tracing: false }),
  "effect-rpc-traced": async () => (await import("./systems/effectRpc.ts")).effectRpc("binary", { tracing: true }),
  "effect-rpc-ndjson": async () => (await import("./systems/effectRpc.ts")).effectRpc("ndjson", { tracing: false }),
  "effect-rpc-ndjson-traced": async () =>
    (await import("./systems/effectRpc.ts")).effectRpc("ndjson", { tracing: true }),
  "grpc-js": async () => (await import("./systems/grpc.ts")).grpc,
  "connect-node": async () => (await import("./systems/connect.ts")).connect,
  undici: async () => (await import("./systems/undici.ts")).undici
} as const satisfies Record<string, (options?: BytesOptions) => Promise<System>>

export type SystemName = keyof typeof systems

export const isSystemName = (name: string): name is SystemName => Object.hasOwn(systems, name)
