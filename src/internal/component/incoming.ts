/**
 * A request to a component's method that was read: it runs the middleware and the handler, and encodes the result.
 *
 * The contract is that of effect/rpc: the order of middleware, the information about a call for handlers and
 * middleware, `Rpc.fork` and `Rpc.uninterruptible`, and results that are a `Deferred`. It does not know connections,
 * nor when a call may run.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Headers from "effect/http/Headers"
import * as Option from "effect/Option"
import { Rpc, RpcMessage } from "effect/rpc"
import type { MethodKey } from "../../MethodKey.ts"
import { Current as CurrentDeadline } from "../ambient/deadline.ts"
import { asEffect, discard } from "../guard.ts"
import { Refused } from "../server/failure.ts"
import type { Incoming, IncomingCall } from "../server/route.ts"
import { isInstance, typeOf } from "../userError.ts"
import type { Accepted } from "./accepts.ts"
import * as Codec from "./codec.ts"
import type { MethodCodecs } from "./methodCodecs.ts"
import * as Payload from "./payload.ts"
import * as Problem from "./problem.ts"

/**
 * The function of an `RpcMiddleware`. Its services are in the context, and it does not look at the result.
 */
export type Middleware = (effect: Effect.Effect<unknown, unknown>, info: CallInfo) => Effect.Effect<unknown, unknown>

/** The method of a request. */
export interface ServedMethod {
  readonly key: MethodKey
  readonly spans: "all" | "none"
  readonly rpc: Rpc.AnyWithProps
  readonly handler: Rpc.Handler<string>["handler"]
  readonly middlewares: ReadonlyArray<Middleware>
  readonly codecs: MethodCodecs
  /** What it takes from its client; undefined if it takes no items. */
  readonly accepted: Accepted | undefined
  /** The names of the handler and the middleware in errors. */
  readonly handlerName: string
  readonly middlewareName: string
}

/**
 * The arguments do not fit the schema of the method. The answer is an error of the call, not a failure of the method.
 */
export class Undecodable extends Error {
  override readonly name = "Undecodable"
}

const isOwn = (failure: unknown): boolean => isInstance(failure, Undecodable) || isInstance(failure, Refused)

/** The bytes before a result and before a failure: the format. */
const successLead = {
  binary: Uint8Array.of(Payload.formatCode.binary),
  json: Uint8Array.of(Payload.formatCode.json)
}
const failureLead = {
  binary: Uint8Array.of(Payload.formatCode.binary | Payload.isFailure),
  json: Uint8Array.of(Payload.formatCode.json | Payload.isFailure)
}

/** A request that was read: it runs the handler and encodes the result. */
export class IncomingRpc implements Incoming {
  readonly isDiscarded: boolean
  replyLead: Uint8Array
  failure: string | undefined = undefined
  protected readonly route: ServedMethod
  protected readonly format: Payload.Format
  private readonly headers: Headers.Headers
  private readonly payload: unknown
  /** Reads the payload, if that needs an effect or has failed; undefined if `payload` has the value. */
  protected readonly reading: Effect.Effect<unknown, Undecodable | Refused> | undefined

  constructor(
    route: ServedMethod,
    format: Payload.Format,
    headers: Headers.Headers,
    isDiscarded: boolean,
    payload: unknown,
    reading: Effect.Effect<unknown, Undecodable | Refused> | undefined
  ) {
    this.route = route
    this.format = format
    this.headers = headers
    this.isDiscarded = isDiscarded
    this.payload = payload
    this.reading = reading
    this.replyLead = successLead[format]
  }

  handle(call: IncomingCall): Effect.Effect<unknown, unknown> {
    return this.reading === undefined
      ? this.invoke(call, this.payload)
      : Effect.flatMap(this.reading, (payload) => this.invoke(call, payload))
  }

  protected invoke(call: IncomingCall, payload: unknown): Effect.Effect<unknown, unknown> {
    const { handler, middlewareName, middlewares, rpc } = this.route
    const info = new CallInfo(call, rpc, payload, this.headers)
    let effect: Effect.Effect<unknown, unknown>
    let uninterruptible = false
    try {
      const result = handler(payload, info)
      // Only objects are asked, since a handler may give any value.
      if (typeof result === "object" && result !== null && Rpc.isWrapper(result)) {
        effect = this.run(result.value, call)
        uninterruptible = result.uninterruptible
        if (result.fork) call.exempt()
      } else {
        effect = this.run(result, call)
      }
      if (this.isDiscarded) {
        // The deadline of the caller was for the answer, which the caller already has.
        const started = Effect.provideService(Effect.flatMap(effect, settled), CurrentDeadline, undefined)
        effect = Effect.andThen(Effect.sync(() => call.acknowledge()), started)
      }
    } catch (defect) {
      effect = Effect.die(defect)
    }
    for (const middleware of middlewares) {
      effect = asEffect(middlewareName, middleware(effect, info))
    }
    if (!uninterruptible) return effect
    return Effect.uninterruptible(Effect.onExitPrimitive(effect, (exit) => {
      call.conclude(exit)
      return undefined
    }))
  }

  /** Runs what the handler has given. */
  protected run(given: unknown, _call: IncomingCall): Effect.Effect<unknown, unknown> {
    // The cast: code without types may give any value, which is looked at.
    return asEffect(this.route.handlerName, given as Effect.Effect<unknown, unknown>)
  }

  isOpen(exit: Exit.Exit<unknown, unknown>): boolean {
    return Exit.isSuccess(exit) && Deferred.isDeferred(exit.value)
  }

  replyNow(value: unknown): Uint8Array | undefined {
    const { direct } = this.route.codecs.success(this.format)
    return direct === undefined || this.isDiscarded || Deferred.isDeferred(value) ? undefined : direct.encode(value)
  }

  reply(exit: Exit.Exit<unknown, unknown>): Effect.Effect<Uint8Array, unknown> {
    if (Exit.isFailure(exit)) {
      const failure = Cause.findErrorOption(exit.cause)
      // It becomes an error of the call. `instanceof` is not safe: the failure of a handler may be a proxy that throws.
      if (Option.isNone(failure) || this.isOwn(failure.value)) {
        return Exit.failCause(exit.cause)
      }
      this.failure = typeOf(failure.value)
      this.replyLead = failureLead[this.format]
      return this.encode(this.route.codecs.error(this.format), "failure", failure.value)
    }
    // Middleware may succeed without the handler. The answer then only says that it succeeded.
    if (this.isDiscarded) return Exit.succeed(nothing)
    if (Deferred.isDeferred(exit.value)) {
      return Effect.flatMap(
        Effect.exit(Deferred.await(exit.value)),
        (exit) => this.reply(exit)
      )
    }
    return this.encode(this.route.codecs.success(this.format), "result", exit.value)
  }

  /** Whether a failure is not the method's: it says why the request was not run. */
  protected isOwn(failure: unknown): boolean {
    return this.reading !== undefined && isOwn(failure)
  }

  /** A result that does not fit its own schema is a bug of the handler. */
  protected encode(codec: Codec.Codec, what: "result" | "failure", value: unknown): Effect.Effect<Uint8Array> {
    const bytes = codec.direct?.encode(value)
    if (bytes !== undefined) return Exit.succeed(bytes)
    let encoded: Effect.Effect<Uint8Array, unknown>
    try {
      encoded = codec.encode(value)
    } catch (defect) {
      return Effect.die(Problem.unencodable(what, this.route.key, defect))
    }
    return Codec.valueNow(encoded) ??
      Effect.catchCause(encoded, (cause) => {
        discard(value)
        return Effect.die(Problem.unencodable(what, this.route.key, cause))
      })
  }
}

/** The information about a call for handlers and middleware. */
export class CallInfo {
  readonly requestId: RpcMessage.RequestId
  readonly rpc: Rpc.AnyWithProps
  readonly payload: unknown
  readonly headers: Headers.Headers
  private readonly connection: object

  constructor(call: IncomingCall, rpc: Rpc.AnyWithProps, payload: unknown, headers: Headers.Headers) {
    this.requestId = RpcMessage.RequestId(call.id)
    this.rpc = rpc
    this.payload = payload
    this.headers = headers
    this.connection = call.connection
  }

  get client(): Rpc.ServerClient {
    let client = clients.get(this.connection)
    if (client === undefined) {
      client = new Rpc.ServerClient(nextClient++)
      clients.set(this.connection, client)
    }
    return client
  }
}

/** Waits for the result of a discarded call: if it is a Deferred, the end of the Deferred is the end of the call. */
const settled = (result: unknown): Effect.Effect<unknown, unknown> =>
  Deferred.isDeferred(result) ? Deferred.await(result) : Exit.succeed(result)

const nothing = new Uint8Array(0)

/** The client of each connection. It is made when it is first asked for. */
const clients = new WeakMap<object, Rpc.ServerClient>()
let nextClient = 0
