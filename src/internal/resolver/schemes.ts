/**
 * Resolvers by the schemes of texts, `scheme://address`. It knows the kinds of resolvers, but not how they resolve.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Dns from "effect/net/Dns"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { effectOf } from "../guard.ts"
import { loadKubernetes } from "../kubernetes/load.ts"
import { invalid } from "../options.ts"
import { isInstance, textOf } from "../userError.ts"
import { directory } from "./directory.ts"
import { dns } from "./dns.ts"
import { dnsSrv } from "./dnsSrv.ts"
import { file } from "./file.ts"
import { checkedResolver } from "./given.ts"

import { constant, InvalidResolver, type Resolver, ResolverError } from "./model.ts"
import { isScheme, parseEndpoints, splitFile, splitScheme } from "./parse.ts"

/**
 * The services that `Resolver.parse` needs: any text may name a resolver that uses them.
 *
 * @category models
 * @since 0.1.0
 */
export type SchemeServices = Dns.Dns | FileSystem.FileSystem | Scope.Scope

/**
 * Makes a resolver of the text after `scheme://`.
 *
 * @category models
 * @since 0.1.0
 */
export type Scheme<R = SchemeServices> = (
  address: string
) => Effect.Effect<Resolver, InvalidResolver | ResolverError, R>

const endpointsOf = (network: string): Scheme => (addresses) => Effect.map(parseEndpoints(network, addresses), constant)

const fileScheme: Scheme = Effect.fnUntraced(function*(address) {
  const split = splitFile(address)
  if (Result.isFailure(split)) return yield* new InvalidResolver({ message: split.failure, text: address })
  return yield* file(split.success.path, yield* parseEndpoints("tcp", split.success.endpoints))
})

const directoryScheme: Scheme = (path) =>
  path === ""
    ? Effect.fail(new InvalidResolver({ message: "the path of the directory is empty", text: path }))
    : directory(path, undefined)

const kubernetesScheme: Scheme = (address) =>
  Effect.flatMap(loadKubernetes, ({ make, parse }): ReturnType<Scheme> => {
    const text = `k8s://${address}`
    const options = parse(text)
    return Result.isFailure(options)
      ? Effect.fail(new InvalidResolver({ message: options.failure, text }))
      : make(options.success)
  })

/**
 * The schemes that `Resolver.parse` knows, by their names. `Resolver.layerSchemes` adds some.
 *
 * @category services
 * @since 0.1.0
 */
export const Schemes: Context.Reference<ReadonlyMap<string, Scheme>> = Context.Reference<ReadonlyMap<string, Scheme>>(
  "effect-call/Resolver/Schemes",
  {
    defaultValue: () =>
      new Map<string, Scheme>([
        ["tcp", endpointsOf("tcp")],
        ["tcp4", endpointsOf("tcp4")],
        ["tcp6", endpointsOf("tcp6")],
        ["unix", endpointsOf("unix")],
        ["dns", (target) => dns(target, undefined)],
        ["dns+srv", (name) => dnsSrv(name, undefined)],
        ["file", fileScheme],
        ["unixdir", directoryScheme],
        ["k8s", kubernetesScheme]
      ])
  }
)

/** The resolver that a scheme makes of an address. The scheme can be user code. */
const madeBy = <R>(scheme: string, make: Scheme<R>, address: string): ReturnType<Scheme<R>> =>
  Effect.map(effectOf(`the scheme ${scheme}`, () => make(address)), checkedResolver)

export const layerSchemes = <R = never>(
  schemes: Readonly<Record<string, Scheme<R | SchemeServices>>>
): Layer.Layer<never, never, Exclude<R, SchemeServices>> =>
  Layer.effect(
    Schemes,
    Effect.gen(function*() {
      const context = yield* Effect.context<Exclude<R, SchemeServices>>()
      const known = new Map(yield* Schemes)
      for (const [scheme, make] of Object.entries(schemes)) {
        if (!isScheme(scheme)) invalid("schemes", scheme, "a scheme in lower-case letters, such as consul")
        known.set(scheme, (address) =>
          // The services at the call of `parse` take precedence: its Scope is the one that counts.
          Effect.updateContext(
            madeBy(scheme, make, address),
            // The two contexts together have all services of R and `SchemeServices`.
            (own: Context.Context<SchemeServices>) => Context.merge(context, own) as Context.Context<R | SchemeServices>
          ))
      }
      return known
    })
  )

export const parse = Effect.fnUntraced(function*(
  text: string
): Effect.fn.Return<Resolver, InvalidResolver | ResolverError, SchemeServices> {
  const split = splitScheme(text)
  if (Result.isFailure(split)) return yield* new InvalidResolver({ message: split.failure, text })
  const { address, scheme } = split.success
  const schemes = yield* Schemes
  const make = schemes.get(scheme)
  if (make === undefined) {
    const message = `"${scheme}" in "${text}" is not the scheme of a resolver: expected one of ${
      [...schemes.keys()].join(", ")
    }`
    return yield* new InvalidResolver({ message, text })
  }
  return yield* Effect.mapError(
    madeBy(scheme, make, address),
    (error) => isInstance(error, ResolverError) ? error : new InvalidResolver({ message: textOf(error), text })
  )
})
