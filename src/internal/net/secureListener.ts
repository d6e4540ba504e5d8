/**
 * A listener that performs a TLS handshake over each connection of another listener.
 *
 * It knows when handshakes begin and end, and when their options are renewed. It does not know how a handshake works:
 * see `tlsServer.ts`.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type { TlsOptions } from "node:tls"
import { isDeepStrictEqual } from "node:util"
import { background } from "../ambient/background.ts"
import { discard, effectOf, isolated } from "../guard.ts"
import { logged } from "../log.ts"
import { Warnings } from "../warnings.ts"
import { arrivalsOf, fromArrivals } from "./accept.ts"
import { type Arrival, ArrivalQueue } from "./arrivals.ts"
import { describe } from "./connect.ts"
import {
  cannotListen,
  type Listener,
  listenerBroke,
  listenerClosed,
  type ListenerError,
  listeningFailed
} from "./model.ts"
import { HandshakeFailed, makeHandshake } from "./tlsServer.ts"

/** The settings of a secure listener other than its TLS options. */
export interface SecureSettings {
  /** The pause between two runs of the Effect of the TLS options. If it is not finite, the Effect runs once. */
  readonly reload: Duration.Duration
  readonly handshakeTimeout: Duration.Duration
}

/** A copy: an Effect may change an object or a list, and then give the same one again. */
const copyOf = (options: TlsOptions): TlsOptions =>
  Object.fromEntries(
    Object.entries({ ...options }).map(([name, value]) => [name, Array.isArray(value) ? [...value] : value])
  )

/** Runs the user's Effect that gives TLS options. */
const ask = (tls: Effect.Effect<TlsOptions, ListenerError>): Effect.Effect<TlsOptions, ListenerError> =>
  Effect.uninterruptibleMask((restore) => isolated(tls, restore))

/** The handshake that new connections get. */
class Current {
  private given: TlsOptions
  /** Whether the last renewal has failed. The failure was then logged. */
  private isFailing = false
  private readonly address: string
  handshake: Result.Result.Success<ReturnType<typeof makeHandshake>>

  constructor(address: string, given: TlsOptions, handshake: Current["handshake"]) {
    this.address = address
    this.given = given
    this.handshake = handshake
  }

  /** Asks for the options again. If they cannot be used, the last good ones stay, and one warning is logged. */
  renew(tls: Effect.Effect<TlsOptions, ListenerError>): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const next = copyOf(yield* ask(tls))
      if (isDeepStrictEqual(next, this.given)) return
      this.handshake = yield* Effect.fromResult(makeHandshake(next))
      this.given = next
      yield* logged(Effect.logDebug("New TLS options are in use"))
    }).pipe(
      Effect.andThen(Effect.sync(() => void (this.isFailing = false))),
      Effect.catchCause((cause) => {
        if (this.isFailing) return Effect.void
        this.isFailing = true
        return logged(Effect.logWarning(
          `The TLS options could not be renewed, and the last good ones stay in use: ${describe(Cause.squash(cause))}`
        ))
      }),
      Effect.annotateLogs({ listener: this.address })
    )
  }
}

/** Listens on top of another listener, and closes it with this one. */
export const listenSecurely = Effect.fnUntraced(function*<R>(
  tls: TlsOptions | Effect.Effect<TlsOptions, ListenerError>,
  listener: Listener<R>,
  { handshakeTimeout, reload }: SecureSettings
): Effect.fn.Return<Listener<R>, ListenerError, Scope.Scope> {
  const below = listener.address
  const address = `mtls://${below}`
  // An async function gives a promise, which is no Effect and has no certificate.
  discard(tls)
  const given = copyOf(Effect.isEffect(tls) ? yield* ask(tls) : tls)
  const first = makeHandshake(given)
  if (Result.isFailure(first)) {
    const reason = first.failure
    return yield* typeof reason === "string" ? cannotListen(address, reason) : listeningFailed(address, reason)
  }
  const current = new Current(address, given, first.success)
  const queue = new ArrivalQueue<R>()
  const warnings = new Warnings(yield* Clock.Clock)
  const scope = yield* Scope.fork(yield* Effect.scope)
  const close = Effect.uninterruptible(Effect.suspend(() => {
    queue.close(listenerClosed(address))
    // At the same time: a custom listener may end its accept only when it is closed, and may never end its close.
    const closing = effectOf(`the close of the listener ${below}`, () => listener.close)
    return Effect.all([closing, Scope.close(scope, Exit.void)], { concurrency: "unbounded", discard: true })
  }))

  // Interruptible only in the handshake: so a connection is always either destroyed or offered.
  const secure = ({ connection, handlers, peer }: Arrival<R>) =>
    current.handshake(connection).pipe(
      Effect.timeoutOrElse({
        duration: handshakeTimeout,
        orElse: () =>
          Effect.fail(new HandshakeFailed(`it took longer than ${Duration.format(handshakeTimeout)}`, false))
      }),
      Effect.interruptible,
      Effect.map((secured) =>
        queue.offer({ connection: secured, peer: { ...peer, certificate: secured.getPeerCertificate() }, handlers })
      ),
      Effect.onError(() => Effect.sync(() => connection.destroy())),
      Effect.catch((error) => {
        const others = error.hungUp ? "" : warnings.next()
        if (others === undefined) return Effect.void
        const log = error.hungUp ? Effect.logDebug : Effect.logWarning
        return logged(log(`TLS handshake failed: ${error.message}${others}`))
      }),
      // The connection may be a custom one.
      Effect.catchDefect((defect) => logged(Effect.logError("TLS handshake died", Cause.die(defect)))),
      Effect.annotateLogs({ listener: address, peer: peer.address })
    )

  yield* Effect.addFinalizer(() => close)
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  yield* Effect.uninterruptibleMask((restore) =>
    Effect.map(
      arrivalsOf(listener, below, restore),
      // Not `forkIn`: it would not even begin if the Scope has closed meanwhile.
      (arrival) => Fiber.runIn(fork(secure(arrival), { uninterruptible: true }), scope)
    )
  ).pipe(
    Effect.forever,
    (loop) => Effect.uninterruptibleMask((restore) => isolated(loop, restore)),
    Effect.catchCause((cause) =>
      Effect.sync(() =>
        queue.close(
          Option.getOrElse(Cause.findErrorOption(cause), () => listenerBroke(address, Cause.squash(cause)))
        )
      )
    ),
    Effect.forkIn(scope)
  )

  if (Effect.isEffect(tls) && Duration.isFinite(reload)) {
    yield* Effect.sleep(reload).pipe(
      Effect.andThen(current.renew(tls)),
      Effect.forever,
      // The Effect may call other services. It is not part of a call itself.
      Effect.provideContext(yield* background),
      Effect.forkIn(scope)
    )
  }
  return fromArrivals({ address, arrivals: queue, close })
})
