/**
 * The methods of a component's server: they decode the arguments of calls and streams.
 *
 * What is done with them is up to `incoming.ts` and `incomingStream.ts`. It does not know connections, nor when a call
 * may run.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Headers from "effect/http/Headers"
import { type Rpc, RpcSchema } from "effect/rpc"
import * as Stream from "effect/Stream"
import type { MethodKey } from "../../MethodKey.ts"
import { withoutCaller } from "../ambient/background.ts"
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
  type RoutedHandler,
  type RoutedStreamHandler
} from "../server/route.ts"
import { type Accepted, Accepts, CurrentItems } from "./accepts.ts"
import * as Codec from "./codec.ts"
import { IncomingRpc, type Middleware, type ServedMethod, Undecodable } from "./incoming.ts"
import { IncomingStream } from "./incomingStream.ts"
import { MethodCodecs } from "./methodCodecs.ts"
import * as Payload from "./payload.ts"
import * as Problem from "./problem.ts"

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

/** Makes the handler of streams of bytes for a method of a component that is a stream. */
export const streamHandlerOf = (method: Method): RoutedStreamHandler => {
  const route = new ComponentRoute(method)
  // A server uses the route: the end of a typed stream has bytes, which a Stream of bytes cannot give.
  const problem = `${handlerName(route)} is typed: only a server can run it`
  return Object.assign(() => Stream.die(new TypeError(problem)), { [ownRoute]: route })
}

/** The route of a method with its handler: it reads requests. */
class ComponentRoute implements Route, ServedMethod {
  readonly key: MethodKey
  readonly isStream: boolean
  readonly isExempt = false
  readonly spans: "all" | "none"
  readonly canceled = RpcSchema.ClientAbort.annotation
  readonly rpc: Rpc.AnyWithProps
  readonly handler: Rpc.Handler<string>["handler"]
  readonly middlewares: ReadonlyArray<Middleware>
  readonly codecs: MethodCodecs
  readonly accepted: Accepted | undefined
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
    this.accepted = Context.get(rpc.annotations, Accepts)
    this.isStream = this.codecs.isStream
    this.codecs.compile(key, "binary", "json")
    this.fingerprint = this.codecs.fingerprint()
    // A call has its own deadline, span and Scope. The ones in the context of the layers do not count.
    this.context = Context.omit(CurrentItems)(withoutCaller(Context.merge(context, handler.context)))
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
    const format = this.formatOf(byte)
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
      this.codecs.check(format)
      if (codec.direct !== undefined) {
        const payload = codec.direct.decode(Payload.view(bytes, payloadAt, end))
        if (payload !== Codec.unread) return this.incoming(format, headers, isDiscarded, payload, undefined)
      }
      const now = Codec.valueNow(codec.decode(Payload.view(bytes, payloadAt, end)))
      if (now !== undefined) return this.incoming(format, headers, isDiscarded, now.value, undefined)
      // It needs an effect, or it failed: decode again, from bytes that stay valid.
      const kept = owned ? Payload.view(bytes, payloadAt, end) : ownCopy(bytes, payloadAt, end)
      const payload = Effect.catchCause(codec.decode(kept), (cause) => this.unread(cause))
      return this.incoming(format, headers, isDiscarded, undefined, payload)
    } catch (defect) {
      return this.incoming(format, headers, isDiscarded, undefined, this.unread(Cause.die(defect)))
    }
  }

  /** The format of a request; undefined if it is unknown, or if its flags do not go with the method. */
  private formatOf(byte: number): Payload.Format | undefined {
    if (!this.isStream) return Payload.formatOf(byte, Payload.hasHeaders | Payload.isDiscarded)
    return (byte & Payload.isStream) === 0
      ? undefined
      : Payload.formatOf(byte, Payload.hasHeaders | Payload.isStream)
  }

  private incoming(
    format: Payload.Format,
    headers: Headers.Headers,
    isDiscarded: boolean,
    payload: unknown,
    reading: Effect.Effect<unknown, Undecodable | Refused> | undefined
  ): Incoming {
    return this.isStream
      ? new IncomingStream(this, format, headers, false, payload, reading)
      : new IncomingRpc(this, format, headers, isDiscarded, payload, reading)
  }

  private unread(cause: Cause.Cause<unknown>): Exit.Exit<never, Undecodable> {
    const refusal = Problem.refusalOf(cause)
    return refusal === undefined ? Exit.die(Cause.squash(cause)) : this.undecodable(Problem.misfit(refusal))
  }

  private refused(format: Payload.Format, problem: string): Incoming {
    return this.notRun(format, this.undecodable(problem))
  }

  private notRun(format: Payload.Format, why: Exit.Exit<never, Undecodable | Refused>): Incoming {
    return this.incoming(format, Headers.empty, false, undefined, why)
  }

  private undecodable(problem: string): Exit.Exit<never, Undecodable> {
    return Exit.fail(new Undecodable(`cannot decode the payload of ${methodName(this.key)}: ${problem}`))
  }
}

/** The error of a request whose client has another contract. */
const contractDiffers = Exit.fail(new Refused("ContractDiffers", Identities.contractDiffers))
