/**
 * Whether a server is ready for calls, as it says itself.
 *
 * A program that warms up, loses its database or is about to leave says so by the {@link Health} service. A server that serves
 * {@link handlers} tells clients that ask (`ClientOptions.health`), which send their calls elsewhere, and {@link readiness} tells Kubernetes
 * or another load balancer. Both have one source.
 *
 * **Example** (A server that is not ready before its cache is filled)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Health, HandlerMap, Listener, Server } from "effect-call"
 *
 * declare const cart: HandlerMap.HandlerMap<never>
 * declare const fillCache: Effect.Effect<void>
 *
 * const CartServer = Server.layer(
 *   Effect.gen(function*() {
 *     yield* Effect.forkScoped(Effect.andThen(fillCache, Health.set("Serving")))
 *     return yield* Listener.tcp(":9000", HandlerMap.merge(cart, yield* Health.handlers))
 *   })
 * ).pipe(Layer.provide(Health.layer("NotServing")))
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as HandlerMap from "./HandlerMap.ts"
import { unexpected } from "./internal/guard.ts"
import * as internal from "./internal/protocol/health.ts"
import { waiting } from "./internal/server/route.ts"

/**
 * Whether calls are welcome.
 *
 * @category models
 * @since 0.1.0
 */
export type Status = "Serving" | "NotServing"

/**
 * What a server says of itself and of its components.
 *
 * @category models
 * @since 0.1.0
 */
export interface Health {
  /** Says it of a component, or of the server as a whole. What is no status is a defect. */
  set(status: Status, component?: string): Effect.Effect<void>
  /**
   * The status of a component, or of the server as a whole. A component serves unless it was said that it does not, or that the server does
   * not.
   */
  status(component?: string): Effect.Effect<Status>
  /** The same, and each change of it. */
  changes(component?: string): Stream.Stream<Status>
}

/**
 * @category services
 * @since 0.1.0
 */
export const Health: Context.Service<Health, Health> = Context.Service<Health>("effect-call/Health")

/**
 * A Health whose server has the given status as a whole, and all components of which serve.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (initial: Status = "Serving"): Effect.Effect<Health> =>
  Effect.map(Effect.suspend(() => SubscriptionRef.make(initially(checked(initial)))), (statuses): Health => {
    const of = (component: string) => (current: ReadonlyMap<string, Status>): Status =>
      current.get(whole) === "NotServing" ? "NotServing" : current.get(component) ?? "Serving"
    return {
      set: (status, component = whole) =>
        SubscriptionRef.update(statuses, (current) => new Map(current).set(component, checked(status))),
      status: (component = whole) => Effect.map(SubscriptionRef.get(statuses), of(component)),
      changes: (component = whole) => Stream.changes(Stream.map(SubscriptionRef.changes(statuses), of(component)))
    }
  })

const initially = (status: Status): ReadonlyMap<string, Status> => new Map([[whole, status]])

/** A status that is misspelt would take the server out of service, or keep it there. */
const checked = (status: Status): Status => {
  if (status === "Serving" || status === "NotServing") return status
  throw unexpected("the status of a server", "\"Serving\" or \"NotServing\"", status)
}

/** The server as a whole, where others are the names of components. */
const whole = ""

/**
 * Provides a {@link Health}, see {@link make}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (initial?: Status): Layer.Layer<Health> => Layer.effect(Health, make(initial))

/**
 * Says of the ambient Health's server, or of a component, whether calls are welcome.
 *
 * @category accessors
 * @since 0.1.0
 */
export const set = (status: Status, component?: string): Effect.Effect<void, never, Health> =>
  Effect.flatMap(Health, (health) => health.set(status, component))

/**
 * What the ambient Health says of its server, or of a component.
 *
 * @category accessors
 * @since 0.1.0
 */
export const status = (component?: string): Effect.Effect<Status, never, Health> =>
  Effect.flatMap(Health, (health) => health.status(component))

/**
 * The handlers by which clients learn of the ambient Health, to be merged with those of the server's components.
 *
 * They are one method, `effect-call/Health.watch`. Its arguments are one byte and the name of a component in UTF-8, empty for the server as a
 * whole. The byte says what the caller knows: 0 (not serving), 1 (serving) or 255 (nothing yet). It answers with one byte, 0 or 1, as soon as that
 * is something else. One such call of each connection does not count among those that a server runs at once (`ServerOptions.maxConcurrentCalls`).
 *
 * @category constructors
 * @since 0.1.0
 */
export const handlers: Effect.Effect<HandlerMap.HandlerMap<never>, never, Health> = Effect.map(
  Health,
  (health) =>
    HandlerMap.set(
      HandlerMap.empty,
      internal.component,
      internal.method,
      // Else those who only wait would keep a server that runs few calls at once from running any.
      waiting(internal.watchKey, (args) => {
        const question = internal.decodeQuestion(args)
        if (typeof question === "string") return Effect.fail(question)
        const changes = health.changes(question.component)
        if (!Stream.isStream(changes)) return Effect.die(unexpected("the changes of a Health", "a Stream", changes))
        return changes.pipe(
          Stream.map((status) => status === "Serving"),
          Stream.filter((isServing) => isServing !== question.known),
          Stream.runHead,
          // The changes of a Health of one's own may end.
          Effect.flatMap((isServing) => Option.isSome(isServing) ? Effect.succeed(isServing.value) : Effect.never),
          Effect.map(internal.encodeAnswer)
        )
      })
    )
)

/**
 * The answer to an HTTP request for the status of the server as a whole: 200 where it serves, 503 where it does not.
 *
 * **Example** (A readiness probe of Kubernetes at `/ready`)
 *
 * ```ts
 * import { Health } from "effect-call"
 * import { HttpRouter } from "effect/http"
 *
 * const Probe = HttpRouter.add("GET", "/ready", Health.readiness)
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const readiness: Effect.Effect<HttpServerResponse.HttpServerResponse, never, Health> = Effect.map(
  status(),
  (status) =>
    status === "Serving"
      ? HttpServerResponse.text("serving\n")
      : HttpServerResponse.text("not serving\n", { status: 503 })
)
