/**
 * What a client is given and what it shows of itself: the options of a Connection and its state. The public module
 * `Connection` re-exports them. Only types: they know nothing of how a client works.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Balancer } from "../../Balancer.ts"

/**
 * Options of a Connection.
 *
 * Source: `type ClientOptions` of the Go package, `balancer`, `optimisticSpinDuration` and `writeFlattenLimit`; the others are ours.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClientOptions {
  /** Makes the balancer. Default: `Balancer.roundRobin`; for {@link layer}, the ambient `Balancer.Factory`. */
  readonly balancer?: Effect.Effect<Balancer> | undefined
  /**
   * How long after sending a call the event loop is kept from sleeping, so that the answer is seen without a wake-up. It costs that much
   * CPU. Default: 0, the loop sleeps as it always does.
   */
  readonly optimisticSpinDuration?: Duration.Input | undefined
  /**
   * From how many bytes on arguments are sent from where they are. Smaller ones are copied before the call suspends, and may be changed as
   * soon as it has; larger ones belong to the Connection from the call on, and must not be changed again. In bytes. Default: 16384.
   */
  readonly writeFlattenLimit?: number | undefined
  /**
   * The largest message to send or to take, its headers not counted but for a request's 49 bytes. A call whose
   * arguments or answer are larger fails with CommunicationError `TooLarge`; others on its connection go on. An answer
   * of more than 1 GiB ends the connection. In bytes. Default: 104857600 (100 MiB).
   */
  readonly maxMessageSize?: number | undefined
  /**
   * How many bytes of calls may wait on a connection whose server is slow to read them. Past that further calls to it wait in their turn, and
   * their deadlines count. In bytes. Default: 1048576 (1 MiB).
   */
  readonly maxUnsentBytes?: number | undefined
  /**
   * How long a message that has begun to arrive may take to be whole. A server that takes longer is given up: the calls
   * in flight fail with CommunicationError `Lost`. Default: 1 minute.
   */
  readonly messageTimeout?: Duration.Input | undefined
  /**
   * How dead servers are found, those that vanish without a word: a server that has said nothing for `interval` is asked whether it is there, and is
   * given up when it has said nothing for `timeout` after that. The calls in flight fail with CommunicationError `Lost`. Any byte counts,
   * also one that it takes of a large message that is being sent to it, and it does not count against it when this process stands still.
   * Default: 10 seconds, 10 seconds; `false` turns it off. It is off for the in-memory network of `effect-call/testing`, unless it is given.
   */
  readonly keepAlive?:
    | {
      readonly interval?: Duration.Input | undefined
      readonly timeout?: Duration.Input | undefined
    }
    | false
    | undefined
  /**
   * How many retries the Connection's calls may make together, so that they do not multiply the load of servers that have too much of it: each
   * call with a `retry` adds `ratio`, up to `burst`, which is there at first, and each retry takes 1. Default: 0.1, 100.
   */
  readonly retryBudget?: {
    readonly ratio?: number | undefined
    readonly burst?: number | undefined
  } | undefined
  /**
   * When an endpoint is ejected, and gets no calls: after `failures` failures in a row, for `duration`. A failure is a
   * call whose time was up, after it was sent or while it waited for the connection or for room on it; or a connection
   * that was lost under calls. A call that its caller interrupts does not count: give calls a `timeout`.
   *
   * Then the endpoint is dialed where it has no connection, and gets single calls, each some time after the other,
   * until one is answered; what fails of that doubles the time, up to `maxDuration`. Never more than half of the
   * endpoints are ejected, and no call waits for one of them that could go elsewhere. Default: 5, 5 seconds, 30
   * seconds; `false` turns it off. It is off for `Balancer.sharded`, whose keys have no other endpoint, unless it is
   * given: its calls then fail with `Unreachable` at once.
   */
  readonly outlierEjection?:
    | {
      readonly failures?: number | undefined
      readonly duration?: Duration.Input | undefined
      readonly maxDuration?: Duration.Input | undefined
    }
    | false
    | undefined
  /** Whether calls, connections and bytes are counted in Effect's `Metric`. Default: true. */
  readonly metrics?: boolean | undefined
  /**
   * How many connections there are to each endpoint, a whole number from 1 on. A call to the endpoint goes over the one with the fewest calls
   * in flight, in turn among equals. Default: 1.
   *
   * A connection is served by one thread, so one of them uses one core of a server. More help where an endpoint is several processes or
   * worker threads that listen on one port (`Listener.tcp` with `reusePort`): the system spreads connections over them, by a hash, so there
   * should be several for each of them. Against a single server process they only cost: less is sent and answered at a time.
   *
   * The first call dials the first connection, and the others are dialed beside later calls, which do not wait for them. A connection that
   * is lost is dialed again the same way. An endpoint is in backoff only while none of its connections is open.
   */
  readonly connectionsPerEndpoint?: number | undefined
  /**
   * Whether connections are opened ahead of need: to each endpoint as soon as it is listed, and again as soon as they are lost or the `backoff` is
   * over; those that keep being lost, once a second. Calls then go to endpoints that are connected, as long as there are any; so none pays for a dial, or waits for one that hangs. It costs a socket for each
   * endpoint, used or not. Default: false, the first call to an endpoint dials.
   */
  readonly eager?: boolean | undefined
  /**
   * How long an endpoint that has been connected gets fewer calls than its weight says, from a tenth on, more by and by: a server that has just
   * started is slow until its code is compiled and its caches are filled. For balancers that go by weight: `Balancer.leastPending`,
   * `peakEwma`, `weighted`. Default: 0, none.
   */
  readonly slowStart?: Duration.Input | undefined
  /**
   * The component whose health servers are asked for (see `Health`), or `""` for servers as a whole: those that say they are not serving get calls
   * only where fewer than half of the endpoints would be left. A server without a `Health` counts as serving, one that has not answered yet
   * does not. Not for the keys of `Balancer.sharded`, which have no other endpoint. Default: none, and nobody is asked.
   */
  readonly health?: string | undefined
  /**
   * How long a dial may take: looking the name up, connecting (to all addresses of a name, side by side), the TLS
   * handshake and the peer's version message together. Calls of one endpoint share a dial. It goes on for later calls
   * when those that wait for it have no time left or are interrupted. Default: 5 seconds.
   */
  readonly dialTimeout?: Duration.Input | undefined
  /**
   * How long an endpoint is left alone after a failed dial: `initial`, multiplied by `factor` for each further failure up to `max`, and
   * changed at random by up to `jitter` of itself. Default: 50 ms, 1.6, 5 seconds, 0.2.
   */
  readonly backoff?: {
    readonly initial?: Duration.Input | undefined
    readonly factor?: number | undefined
    readonly max?: Duration.Input | undefined
    readonly jitter?: number | undefined
  } | undefined
}

/**
 * What a Connection has to do with one endpoint.
 *
 * - `Idle`: no socket; the next call that is sent here dials, or the Connection does by itself where it is `eager`.
 * - `Dialing`: a socket is being opened. Calls wait for it. It is opened for later ones when they are given up.
 * - `Active`: calls are sent.
 * - `Draining`: no longer listed, or its server goes away; the calls in flight finish, and then it closes. One that is listed still is dialed
 *   again by the next call that is sent here, or at once where the Connection is `eager`.
 * - `Gone`: closed for good.
 *
 * Where it has several connections (`connectionsPerEndpoint`), it is `Active` when any of them is, `callsInFlight` are those of all, and it
 * is not left alone while one is open. `lastFailure` may then be that of one of them, while the others are open.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndpointState {
  readonly address: string
  readonly state: "Idle" | "Dialing" | "Active" | "Draining" | "Gone"
  readonly callsInFlight: number
  /** Whether it is left alone for now, after a failed dial. */
  readonly inBackoff: boolean
  /** Whether it is ejected: it gets no calls for now, since they kept failing (`ClientOptions.outlierEjection`). */
  readonly isEjected: boolean
  /** Whether its servers say that they serve, as far as the Connection asks them (`ClientOptions.health`). */
  readonly isServing: boolean
  /** What its answers take on average, in milliseconds, as balancers see it; undefined before there was one. */
  readonly latency: number | undefined
  /** Why it could not be dialed, or was lost, the last time; undefined where it has answered since. */
  readonly lastFailure: string | undefined
}

/**
 * A snapshot of a Connection: the endpoints that are listed, and those that still drain.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionState {
  readonly closed: boolean
  readonly endpoints: ReadonlyArray<EndpointState>
}
