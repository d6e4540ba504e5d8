/**
 * Loads the resolver of Kubernetes when it is first used. With HTTPS and YAML, which it needs, it takes as long to load
 * as a quarter of the rest of the package.
 */
import * as Effect from "effect/Effect"

export const loadKubernetes = Effect.promise(() => import("./resolver.ts"))
