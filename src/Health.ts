/**
 * Whether a server is ready for calls, as the server reports it.
 *
 * A program that warms up, loses its database or is about to stop reports that through the {@link Health} service. A
 * server that serves {@link handlers} tells its clients (`ClientOptions.health`), which then send their calls
 * elsewhere. {@link readiness} tells Kubernetes or another load balancer. Both read the same service.
 *
 * This module does not know how clients probe, nor what they do with an answer.
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
 * @module
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
import { Leaving } from "./internal/ambient/leaving.ts"
import { unexpected } from "./internal/guard.ts"
import * as internal from "./internal/protocol/health.ts"
import { waiting, watching } from "./internal/server/route.ts"
import { changesKey, watchKey } from "./internal/session/healthKey.ts"

/**
 * Whether a server takes calls.
 *
 * @category models
 * @since 0.1.0
 */
export type Status = "Serving" | "NotServing"

/**
 * The status of a server as a whole and of its components: code of the server sets it, and clients and probes read it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Health {
  /**
   * Sets the status of a component, or of the server as a whole if no component is given. A value that is no status is
   * a defect.
   */
  set(status: Status, component?: string): Effect.Effect<void>
  /**
   * The status of a component, or of the server as a whole if no component is given. A component serves unless it, or
   * the server as a whole, is set to `"NotServing"`.
   */
  status(component?: string): Effect.Effect<Status>
  /** The status now, and each change of it, as a stream that does not end. */
  changes(component?: string): Stream.Stream<Status>
}

/**
 * The key of the service {@link Health}.
 *
 * @category services
 * @since 0.1.0
 */
export const Health: Context.Service<Health, Health> = Context.Service<Health>("effect-call/Health")

/**
 * Makes a `Health`. The server as a whole has the given status. Default: `"Serving"`. No status is set for its
 * components yet.
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

/** A misspelt status would take the server out of service, or keep it there. */
const checked = (status: Status): Status => {
  if (status === "Serving" || status === "NotServing") return status
  throw unexpected("the status of a server", "\"Serving\" or \"NotServing\"", status)
}

/** Stands for the server as a whole, in place of the name of a component. */
const whole = ""

/**
 * Provides a {@link Health}. The server as a whole has the given status. Default: `"Serving"`.
 *
 * **When to use**
 *
 * Provide it to everything in the process that sets or reads the status: the code that warms up, the server with
 * {@link handlers}, and the HTTP probe with {@link readiness}.
 *
 * **Gotchas**
 *
 * A layer is built once only if it is the same object. Two calls of `layer` make two services that know nothing of each
 * other.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (initial?: Status): Layer.Layer<Health> => Layer.effect(Health, make(initial))

/**
 * Sets the status of a component, or of the server as a whole, in the ambient Health.
 *
 * **Example** (Not ready while the database is away)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Health } from "effect-call"
 *
 * declare const databaseIsUp: Effect.Effect<boolean>
 *
 * const check = Effect.flatMap(
 *   databaseIsUp,
 *   (isUp) => Health.set(isUp ? "Serving" : "NotServing", "shop/Orders")
 * )
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const set = (status: Status, component?: string): Effect.Effect<void, never, Health> =>
  Effect.flatMap(Health, (health) => health.set(status, component))

/**
 * The status of a component, or of the server as a whole, in the ambient Health.
 *
 * @category accessors
 * @since 0.1.0
 */
export const status = (component?: string): Effect.Effect<Status, never, Health> =>
  Effect.flatMap(Health, (health) => health.status(component))

/**
 * The handlers that tell clients the status. Merge them with the handlers of the server's components.
 *
 * **When to use**
 *
 * Use them if clients have `ClientOptions.health`. Without them, such clients count the server as serving.
 *
 * **Details**
 *
 * They are a stream and a method, both of bytes. A status is one byte, 0 (not serving) or 1 (serving). A component is
 * its name in UTF-8, empty for the server as a whole.
 *
 * - `effect-call/Health.changes` is a stream: its arguments are a component, and its items are the status now and then
 *   each other one. It ends when the server leaves. One of each connection does not count towards
 *   `ServerOptions.maxStreamsPerConnection` and `maxStreams`.
 * - `effect-call/Health.watch` is for clients that know no streams. Its arguments are one byte and a component. The
 *   byte is the status that the caller knows, or 255 for none yet. It answers with the status as soon as that differs.
 *   One such call of each connection does not count towards `ServerOptions.maxConcurrentCalls`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const handlers: Effect.Effect<HandlerMap.HandlerMap<never>, never, Health> = Effect.map(
  Health,
  (health) => {
    const changesOf = (component: string): Stream.Stream<boolean> => {
      const changes = health.changes(component)
      if (!Stream.isStream(changes)) return Stream.die(unexpected("the changes of a Health", "a Stream", changes))
      // The changes of a custom Health may end, and may repeat a status.
      return changes.pipe(
        Stream.map((status) => status === "Serving"),
        Stream.changes,
        Stream.concat(Stream.never)
      )
    }
    return HandlerMap.empty.pipe(
      HandlerMap.setStream(
        internal.component,
        internal.streamMethod,
        watching(changesKey, (args) =>
          changesOf(internal.decodeComponent(args)).pipe(
            Stream.map(internal.encodeAnswer),
            Stream.interruptWhen(Effect.flatMap(Leaving, (leaving) => leaving))
          ))
      ),
      HandlerMap.set(
        internal.component,
        internal.method,
        // It does not count as a running call. Otherwise clients that wait for a change would use up a small limit.
        waiting(watchKey, (args) => {
          const question = internal.decodeQuestion(args)
          if (typeof question === "string") return Effect.fail(question)
          return changesOf(question.component).pipe(
            Stream.filter((isServing) => isServing !== question.known),
            Stream.runHead,
            Effect.flatMap((isServing) => Option.isSome(isServing) ? Effect.succeed(isServing.value) : Effect.never),
            Effect.map(internal.encodeAnswer)
          )
        })
      )
    )
  }
)

/**
 * The answer to an HTTP request for the status of the server as a whole: 200 if it serves, 503 if not.
 *
 * **When to use**
 *
 * Use it as a route for a readiness probe of Kubernetes, or for the check of a load balancer.
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
