/**
 * A program that prints which modules of Kubernetes an import of the package loads, what the first use of it answers,
 * and which modules are loaded then.
 */
import { Effect, FileSystem } from "effect"
import { registerHooks } from "node:module"

const loaded = new Set<string>()
registerHooks({
  load: (url, context, nextLoad) => {
    const name = /\/internal\/kubernetes\/(.*)$/.exec(url)?.[1]
    if (name !== undefined) loaded.add(name)
    return nextLoad(url, context)
  }
})

// The sources, not what was built of them at some time. A static import would come before the hook.
const { Resolver } = await import("../../src/index.ts")
const imported = [...loaded]
const error = await Resolver.kubernetes({ service: "cart" }).pipe(
  Effect.flip,
  Effect.provide(FileSystem.layerNoop({ exists: () => Effect.succeed(false) })),
  Effect.scoped,
  Effect.runPromise
)
process.stdout.write(JSON.stringify({ imported, answer: error.message, used: [...loaded] }))
