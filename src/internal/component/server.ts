/**
 * The methods of a component's server: they decode the arguments, run the middleware and the handler, and encode the
 * result.
 *
 * The contract is that of effect/rpc: the order of middleware, the information about a call for handlers and
 * middleware, `Rpc.fork` and `Rpc.uninterruptible`, and results that are a `Deferred`. It does not know connections,
 * nor when a call may run.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Headers from "effect/http/Headers"
import * as Option from "effect/Option"
import { Rpc, RpcMessage, RpcSchema } from "effect/rpc"
import type { MethodKey } from "../../MethodKey.ts"
import { withoutCaller } from "../ambient/background.ts"
import { Current as CurrentDeadline } from "../ambient/deadline.ts"
import { asEffect, discard } from "../guard.ts"
import { ownCopy } from "../memory/bytes.ts"
import { type Fingerprint, fingerprintSize, isFingerprint } from "../protocol/fingerprint.ts"
import * as Identities from "../protocol/identities.ts"
import { methodName } from "../protocol/methodName.ts"
import { Refused } from "../server/failure.ts"
import {
  handlerName,
  type Incoming,
  type IncomingCall,
  ownRoute,
  type Route,
  type RoutedHandler
} from "../server/route.ts"
import { isInstance, typeOf } from "../userError.ts"
import * as Codec from "./codec.ts"
import { MethodCodecs } from "./methodCodecs.ts"
import * as Payload from "./payload.ts"
import * as Problem from "./problem.ts"

/**
 * The function of an `RpcMiddleware`. Its services are in the context, and it does not look at the result.
 */
export type Middleware = (effect: Effect.Effect<unknown, unknown>, info: CallInfo) => Effect.Effect<unknown, unknown>

/** A method with its handler and middleware, as a group of effect/rpc makes them. */
export interface Method {
  readonly key: MethodKey
  readonly rpc: Rpc.AnyWithProps
  readonly handler: Rpc.Handler<string>
  /** In the order of the Rpc: the last one is the outermost. */
  readonly middlewares: ReadonlyArray<Middleware>
  /** The services that schemas may need in addition to the services of the handler. */
  readonly context: Context.Context<never>
  readonly tracing: boolean
}

/** Makes the handler of bytes for a method of a component. */
export const handlerOf = (method: Method): RoutedHandler => {
  const route = new ComponentRoute(method)
  const context = route.contextIn(Context.empty())
  return Object.assign(
    // For code that calls the handler directly: a server uses the route.
    (args: Uint8Array) => {
      const incoming = route.read(args, 0, args.length, true)
      const call: IncomingCall = {
        id: 0,
        stream: undefined,
        connection: incoming,
        acknowledge: () => {},
        exempt: () => {},
        conclude: () => {}
      }
      return Effect.suspend(() => incoming.handle(call)).pipe(
        Effect.scoped,
        Effect.exit,
        Effect.flatMap((exit) => incoming.reply(exit)),
        Effect.map((reply) => Payload.joined(incoming.replyLead, reply)),
        // A call has its own deadline and span. The handler's context has none.
        Effect.updateContext((own: Context.Context<never>) => Context.merge(own, context))
      )
    },
    { [ownRoute]: route }
  )
}

/** The route of a method with its handler: it reads requests. */
class ComponentRoute implements Route {
  readonly key: MethodKey
  readonly isStream = false
  readonly spans: "all" | "none"
  readonly canceled = RpcSchema.ClientAbort.annotation
  readonly rpc: Rpc.AnyWithProps
  readonly handler: Rpc.Handler<string>["handler"]
  readonly middlewares: ReadonlyArray<Middleware>
  readonly codecs: MethodCodecs
  /** The names of the handler and the middleware in errors. */
  readonly handlerName: string
  readonly middlewareName: string
  /** The fingerprint that a binary request must have; undefined if the method has no binary form. */
  private readonly fingerprint: Fingerprint | undefined
  private readonly context: Context.Context<never>
  private readonly contexts = new WeakMap<Context.Context<never>, Context.Context<never>>()

  constructor({ context, handler, key, middlewares, rpc, tracing }: Method) {
    this.key = key
    this.spans = tracing ? "all" : "none"
    this.rpc = rpc
    this.handler = handler.handler
    this.middlewares = middlewares
    this.handlerName = handlerName(this)
    this.middlewareName = `a middleware of ${methodName(key)}`
    this.codecs = MethodCodecs.of(rpc)
    this.codecs.compile(key, "binary", "json")
    this.fingerprint = this.codecs.fingerprint()
    // A call has its own deadline, span and Scope. The ones in the context of the layers do not count.
    this.context = withoutCaller(Context.merge(context, handler.context))
  }

  contextIn(server: Context.Context<never>): Context.Context<never> {
    let merged = this.contexts.get(server)
    if (merged === undefined) {
      merged = Context.merge(server, this.context)
      this.contexts.set(server, merged)
    }
    return merged
  }

  read(bytes: Uint8Array, start: number, end: number, owned: boolean): Incoming {
    const byte = bytes[start]
    if (byte === undefined || start === end) {
      return this.refused("binary", "expected a format this version knows, got nothing")
    }
    const format = Payload.formatOf(byte, Payload.hasHeaders | Payload.isDiscarded)
    if (format === undefined) {
      const got = byte.toString(16).padStart(2, "0")
      return this.refused("binary", `expected a format this version knows, got format 0x${got}`)
    }
    let headers = Headers.empty
    let payloadAt = start + 1
    if (format === "binary") {
      payloadAt += fingerprintSize
      if (payloadAt > end) return this.refused("binary", "expected the fingerprint of its contract, got fewer bytes")
      if (this.fingerprint === undefined || !isFingerprint(bytes, start + 1, this.fingerprint)) {
        return this.notRun("binary", contractDiffers)
      }
    }
    if ((byte & Payload.hasHeaders) !== 0) {
      const read = Payload.decodeHeaders(bytes, payloadAt, end)
      if (read === undefined) return this.refused(format, "expected headers before the arguments")
      headers = read.headers
      payloadAt = read.next
    }
    const isDiscarded = (byte & Payload.isDiscarded) !== 0
    try {
      const codec = this.codecs.payload(format)
      // Checked before the handler runs: its answer needs a form in this format, too.
      this.codecs.success(format)
      this.codecs.error(format)
      if (codec.direct !== undefined) {
        const payload = codec.direct.decode(Payload.view(bytes, payloadAt, end))
        if (payload !== Codec.unread) return new IncomingRpc(this, format, headers, isDiscarded, payload, undefined)
      }
      const now = Codec.valueNow(codec.decode(Payload.view(bytes, payloadAt, end)))
      if (now !== undefined) return new IncomingRpc(this, format, headers, isDiscarded, now.value, undefined)
      // It needs an effect, or it failed: decode again, from bytes that stay valid.
      const kept = owned ? Payload.view(bytes, payloadAt, end) : ownCopy(bytes, payloadAt, end)
      const payload = Effect.catchCause(codec.decode(kept), (cause) => this.unread(cause))
      return new IncomingRpc(this, format, headers, isDiscarded, undefined, payload)
    } catch (defect) {
      return new IncomingRpc(this, format, headers, isDiscarded, undefined, this.unread(Cause.die(defect)))
    }
  }

  private unread(cause: Cause.Cause<unknown>): Exit.Exit<never, Undecodable> {
    const refusal = Problem.refusalOf(cause)
    return refusal === undefined ? Exit.die(Cause.squash(cause)) : this.undecodable(Problem.misfit(refusal))
  }

  private refused(format: Payload.Format, problem: string): Incoming {
    return this.notRun(format, this.undecodable(problem))
  }

  private notRun(format: Payload.Format, why: Exit.Exit<never, Undecodable | Refused>): Incoming {
    return new IncomingRpc(this, format, Headers.empty, false, undefined, why)
  }

  private undecodable(problem: string): Exit.Exit<never, Undecodable> {
    return Exit.fail(new Undecodable(`cannot decode the payload of ${methodName(this.key)}: ${problem}`))
  }
}

/**
 * The arguments do not fit the schema of the method. The answer is an error of the call, not a failure of the method.
 */
class Undecodable extends Error {
  override readonly name = "Undecodable"
}

/** The error of a request whose client has another contract. */
const contractDiffers = Exit.fail(new Refused("ContractDiffers", Identities.contractDiffers))

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
class IncomingRpc implements Incoming {
  readonly isDiscarded: boolean
  replyLead: Uint8Array
  failure: string | undefined = undefined
  private readonly route: ComponentRoute
  private readonly format: Payload.Format
  private readonly headers: Headers.Headers
  private readonly payload: unknown
  /** Reads the payload, if that needs an effect or has failed; undefined if `payload` has the value. */
  private readonly reading: Effect.Effect<unknown, Undecodable | Refused> | undefined

  constructor(
    route: ComponentRoute,
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

  private invoke(call: IncomingCall, payload: unknown): Effect.Effect<unknown, unknown> {
    const { handler, handlerName, middlewareName, middlewares, rpc } = this.route
    const info = new CallInfo(call, rpc, payload, this.headers)
    let effect: Effect.Effect<unknown, unknown>
    let uninterruptible = false
    try {
      const result = handler(payload, info)
      // Only objects are asked, since a handler may give any value.
      if (typeof result === "object" && result !== null && Rpc.isWrapper(result)) {
        // Streams are refused when the component is made.
        effect = asEffect(handlerName, result.value as Effect.Effect<unknown, unknown>)
        uninterruptible = result.uninterruptible
        if (result.fork) call.exempt()
      } else {
        effect = asEffect(handlerName, result as Effect.Effect<unknown, unknown>)
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
      if (Option.isNone(failure) || (this.reading !== undefined && isOwn(failure.value))) {
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

  /** A result that does not fit its own schema is a bug of the handler. */
  private encode(codec: Codec.Codec, what: "result" | "failure", value: unknown): Effect.Effect<Uint8Array> {
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
