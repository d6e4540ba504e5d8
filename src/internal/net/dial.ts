/**
 * Dials a place in the network: the addresses of its name side by side, as in RFC 8305, until one connects, all have
 * refused, or the caller gives up. It sets no time limit, and knows neither TLS nor transports. Each address is:
 *
 * ```
 *   Waiting ──▶ Connecting ──────────────▶ Won       it has connected first; the others are destroyed
 *                │      ▲  └─────────────▶ Refused   it has failed for good
 *      "not now" ▼      │ after a short wait
 *               Paused
 * ```
 *
 * An address waits until the previous one has been tried for {@link attemptDelay}, or has failed. Then both are tried.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import { formatTcp, isUnspecified, type Target, unmapped } from "./address.ts"
import { ignoreError } from "./connect.ts"
import { type Family, lookup } from "./lookup.ts"
import { untilNotNow } from "./notNow.ts"
import { CurrentObstacles, type Obstacles } from "./obstacles.ts"

/** In milliseconds: how long an address is tried before the next one is tried at the same time. */
const attemptDelay = 250

/** One address that is tried. */
interface Candidate {
  /** As errors of `node:net` name it. */
  readonly name: string
  readonly options: net.NetConnectOpts
}

/** The addresses of this host, so that it is also found without a hosts file. */
const loopbacks: ReadonlyArray<string> = ["127.0.0.1", "::1"]

/** Addresses of the two families in turn, beginning with the family of the first one. */
const interleave = (addresses: ReadonlyArray<string>): ReadonlyArray<string> => {
  const first = addresses.filter((address) => net.isIP(address) === net.isIP(addresses[0] ?? ""))
  const second = addresses.filter((address) => !first.includes(address))
  const longest = first.length > second.length ? first : second
  return longest.flatMap((_, i) => [...first.slice(i, i + 1), ...second.slice(i, i + 1)])
}

const addressesOf = (
  host: string,
  family: Family,
  obstacles: Obstacles
): Effect.Effect<ReadonlyArray<string>, unknown> =>
  Effect.suspend(() => {
    if (isUnspecified(host)) {
      return Effect.succeed(loopbacks.filter((address) => family === 0 || net.isIP(address) === family))
    }
    obstacles.set(host, `the lookup of ${host} has no answer`)
    return untilNotNow(lookup(host, family), (error) => obstacles.set(host, error)).pipe(
      Effect.map((found) => {
        obstacles.clear()
        return interleave([...new Set(found.map(({ address }) => address))])
      })
    )
  })

const candidatesOf = (target: Target, obstacles: Obstacles): Effect.Effect<ReadonlyArray<Candidate>, unknown> =>
  target._tag === "Unix"
    ? Effect.succeed([{ name: target.path, options: { path: target.path } }])
    : Effect.map(addressesOf(target.host, target.family, obstacles), (addresses) =>
      addresses.map((host) => ({
        name: formatTcp(host, target.port),
        options: { host, port: target.port, noDelay: true }
      })))

/**
 * Whether a socket is connected to itself. If a port has no listener, and is in the range of local ports, the system
 * may pick that very port for the socket. It then takes the two SYNs that cross for a connection (simultaneous open).
 */
const isToItself = (socket: net.Socket, options: net.NetConnectOpts): boolean =>
  "port" in options && socket.localPort === options.port && socket.remotePort === options.port &&
  unmapped(socket.localAddress ?? "") === unmapped(socket.remoteAddress ?? "")

const toItself = ({ name }: Candidate): Error =>
  Object.assign(
    new Error(`connect ECONNREFUSED ${name} - the socket was connected to itself, so there is no listener`),
    {
      code: "ECONNREFUSED",
      syscall: "connect"
    }
  )

/** The sockets of one dial. The first that connects wins. */
class Race {
  winner: net.Socket | undefined
  private readonly sockets = new Set<net.Socket>()
  private readonly options: net.SocketConstructorOpts

  constructor(options: net.SocketConstructorOpts) {
    this.options = options
  }

  /**
   * Connects one socket. The others are destroyed as soon as it has connected, and not later: a second socket that
   * connects must not read into the buffer that all of them share.
   */
  attempt(candidate: Candidate): Effect.Effect<void, unknown> {
    return Effect.callback((resume) => {
      // The race is over, and this attempt is about to be interrupted.
      if (this.winner !== undefined) return
      const { options } = candidate
      // `noDelay` is an option of the socket.
      const socket = new net.Socket({ ...this.options, ...options })
      this.sockets.add(socket)
      const settle = (result: Effect.Effect<void, unknown>) => {
        off()
        resume(result)
      }
      const onConnect = () => {
        if (!isToItself(socket, options)) {
          this.win(socket)
          return settle(Effect.void)
        }
        // Reset, and not closed: that would keep the port for a minute.
        socket.resetAndDestroy()
        settle(Effect.fail(toItself(candidate)))
      }
      const onError = (error: unknown) => settle(Effect.fail(error))
      const off = () => {
        socket.off("connect", onConnect)
        socket.off("error", onError)
        if (this.winner !== socket) this.drop(socket)
      }
      socket.on("error", ignoreError)
      socket.once("connect", onConnect)
      socket.once("error", onError)
      try {
        socket.connect(options)
      } catch (error) {
        // On bad options it throws, and emits no error. The socket exists nevertheless.
        onError(error)
      }
      return Effect.sync(off)
    })
  }

  /** Destroys all sockets. */
  stop(): void {
    for (const socket of this.sockets) this.drop(socket)
  }

  private win(winner: net.Socket): void {
    this.winner = winner
    for (const socket of this.sockets) if (socket !== winner) this.drop(socket)
  }

  private drop(socket: net.Socket): void {
    this.sockets.delete(socket)
    socket.destroy()
  }
}

/** Tries all candidates. It fails when each of them has failed, with the last error of each. */
const compete = Effect.fnUntraced(function*(
  race: Race,
  candidates: ReadonlyArray<Candidate>,
  obstacles: Obstacles
): Effect.fn.Return<void, ReadonlyArray<unknown>> {
  const failures = yield* Queue.unbounded<void>()
  const begun = candidates.map(() => Deferred.makeUnsafe<void>())
  const tryOne = Effect.fnUntraced(function*(candidate: Candidate, i: number): Effect.fn.Return<void, unknown> {
    const [before, self] = [begun[i - 1], begun[i]]
    if (before !== undefined) {
      yield* Deferred.await(before)
      yield* Effect.raceFirst(Effect.sleep(attemptDelay), Queue.take(failures))
    }
    if (self !== undefined) Deferred.doneUnsafe(self, Effect.void)
    obstacles.set(candidate.name, `${candidate.name} has not answered`)
    let hasFailed = false
    yield* untilNotNow(race.attempt(candidate), (error) => {
      obstacles.set(candidate.name, error)
      // Once for each address: an address that fails repeatedly starts only one other.
      if (!hasFailed) Queue.offerUnsafe(failures, undefined)
      hasFailed = true
    })
  })
  // Flipped: `forEach` interrupts the others at the first failure, which is the first success here. So they must be
  // interruptible, even if the dial is not.
  yield* Effect.flip(
    Effect.forEach(candidates, (candidate, i) => Effect.interruptible(Effect.flip(tryOne(candidate, i))), {
      concurrency: "unbounded"
    })
  )
})

/** One error for all of them, with the code of the first one, as Node makes it. */
const sumUp = (errors: ReadonlyArray<unknown>): unknown => {
  const [first] = errors
  if (errors.length === 1) return first
  const code = first instanceof Error && "code" in first ? { code: first.code } : {}
  return Object.assign(new AggregateError(errors), code)
}

/** Gives a connected socket. It is destroyed with the Scope, and at once if dialing fails or is interrupted. */
export const dial = (
  target: Target,
  options: Pick<net.SocketConstructorOpts, "onread">
): Effect.Effect<net.Socket, unknown, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const obstacles = yield* CurrentObstacles
      const race = new Race(options)
      yield* candidatesOf(target, obstacles).pipe(
        Effect.flatMap((candidates) => Effect.mapError(compete(race, candidates, obstacles), sumUp)),
        restore,
        Effect.onError(() => Effect.sync(() => race.stop()))
      )
      obstacles.clear()
      const { winner } = race
      if (winner === undefined) return yield* Effect.die(new Error("a dial is over, and no socket has connected"))
      yield* Effect.addFinalizer(() => Effect.sync(() => winner.destroy()))
      return winner
    })
  )
