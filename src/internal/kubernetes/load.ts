/**
 * Loads the resolver of Kubernetes when it is first used. It needs HTTPS and YAML. To load them takes a quarter of the
 * time that the rest of the package takes. It does not know what a resolver does.
 */
import * as Effect from "effect/Effect"

export const loadKubernetes = Effect.promise(() => import("./resolver.ts"))
