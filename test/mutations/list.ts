/**
 * Realistic faults, each in one place of the source: what the test suite must catch. `run.ts` tries them out.
 *
 * The list is data. When code moves, its entry moves with it: `name` says what is broken, so that the place can be
 * found again, and `list.test.ts` says which entries no longer fit.
 */

/** A part of the source, as the folders are named, or will be. */
export type Room =
  | "memory"
  | "time"
  | "ambient"
  | "protocol"
  | "transport"
  | "session"
  | "client"
  | "server"
  | "component"
  | "resolver"
  | "kubernetes"
  | "balancer"
  | "net"
  | "telemetry"
  | "cli"
  | "testing"
  | "public"

/** How many mutations a room has at least. */
export const leastPerRoom: Readonly<Record<Room, number>> = {
  memory: 2,
  time: 2,
  ambient: 2,
  protocol: 2,
  transport: 2,
  session: 2,
  client: 5,
  server: 5,
  component: 2,
  resolver: 2,
  kubernetes: 2,
  balancer: 2,
  net: 2,
  telemetry: 2,
  cli: 2,
  testing: 2,
  public: 2
}

/** One fault. */
export interface Mutation {
  /** What is broken. It stays the same when the code moves: results are kept by it. */
  readonly name: string
  readonly room: Room
  /** The file, from the root of the project. */
  readonly file: string
  /** A text that occurs exactly once in the file. */
  readonly from: string
  readonly to: string
  /** The test files that most probably catch it. They only save time: one that is not there is passed over. */
  readonly tests?: ReadonlyArray<string>
}

export const mutations: ReadonlyArray<Mutation> = [
  // ---- memory
  {
    name: "Two copies that are cut from one shared block may share their last bytes",
    room: "memory",
    file: "src/internal/memory/bytes.ts",
    from: "used += (length + 7) & ~7",
    to: "used += length & ~7",
    tests: ["test/Server.test.ts", "test/Connection.test.ts", "test/wire.test.ts"]
  },
  {
    name: "The paced garbage collection forgets what is more than one step, and falls behind large buffers",
    room: "memory",
    file: "src/internal/memory/gcPacing.ts",
    from: "due -= stepSize",
    to: "due = 0",
    tests: ["test/internal/collections.test.ts"]
  },

  // ---- time
  {
    name: "A sleep on a TestClock rounds down to nanoseconds, and wakes before its time",
    room: "time",
    file: "src/internal/time/clock.ts",
    from: "Math.ceil(millis * 1e6) / 1e6",
    to: "Math.floor(millis * 1e6) / 1e6",
    tests: ["test/internal/time.test.ts", "test/internal/timer.test.ts", "test/Connection/deadline.test.ts"]
  },
  {
    name: "A deadline timer that already sleeps for a later deadline is not set to an earlier one",
    room: "time",
    file: "src/internal/time/timer.ts",
    from: "if (at >= this.at || this.stopped) return",
    to: "if (this.at !== Infinity || this.stopped) return",
    tests: ["test/internal/timer.test.ts"]
  },

  // ---- ambient
  {
    name: "A call takes its options and deadline from another call of the same turn, though its context is another",
    room: "ambient",
    file: "src/internal/ambient/turn.ts",
    from: "if (context === this.kept) return",
    to: "if (context === this.kept || this.kept !== undefined) return",
    tests: [
      "test/internal/ambient/turn.test.ts",
      "test/Connection/deadline.test.ts",
      "test/Connection/options.test.ts"
    ]
  },
  {
    name: "Background fibers keep the deadline, the span and the options of the call that started them",
    room: "ambient",
    file: "src/internal/ambient/background.ts",
    from: "Effect.map(Effect.context<never>(), withoutCaller)",
    to: "Effect.context<never>()",
    tests: ["test/Connection/context.test.ts", "test/Resolver.test.ts"]
  },

  // ---- protocol
  {
    name: "A time left of less than a microsecond is written as 0, which means that there is no deadline",
    room: "protocol",
    file: "src/internal/protocol/request.ts",
    from: "Math.max(1, Math.floor(micros))",
    to: "Math.floor(micros)",
    tests: ["test/internal/protocol/request.test.ts"]
  },
  {
    name: "A message whose length is exactly the limit is refused as too large",
    room: "protocol",
    file: "src/internal/protocol/frame.ts",
    from: "if (length > this.maxSize && ",
    to: "if (length >= this.maxSize && ",
    tests: ["test/internal/protocol/frame.test.ts"]
  },

  // ---- transport
  {
    name: "The first request that the socket has not been given yet counts as sent",
    room: "transport",
    file: "src/internal/transport/writer.ts",
    from: "this.sentThrough = first - 1",
    to: "this.sentThrough = first",
    tests: ["test/internal/transport/writerPieces.test.ts", "test/internal/transport/writer.test.ts"]
  },
  {
    name: "The bytes of any duplex are handed out without a copy, though its writer may write to them again",
    room: "transport",
    file: "src/internal/transport/transport.ts",
    from: "this.ownsChunks = this.capabilities.ownsChunks",
    to: "this.ownsChunks = true",
    tests: ["test/faults/usersDuplexes.test.ts", "test/internal/transport/onread.test.ts"]
  },

  // ---- session
  {
    name:
      "Keep-alive gives a peer that has little to read the long time for its answer, and one with much the short one",
    room: "session",
    file: "src/internal/session/keepAlive.ts",
    from: "before > large ?",
    to: "before <= large ?",
    tests: ["test/internal/session/keepAlive.test.ts", "test/Server/keepAlive.test.ts"]
  },
  {
    name: "A client is refused for a message that does not become whole, though it is the server that does not read",
    room: "session",
    file: "src/internal/server/silence.ts",
    from: "stalled.look(now, transport.isPartial, !isDeaf)",
    to: "stalled.look(now, transport.isPartial, true)",
    tests: ["test/Server/slowReader.test.ts", "test/Server/slowMessages.test.ts"]
  },

  // ---- client
  {
    name: "The backoff of an endpoint does not begin anew after it was connected",
    room: "client",
    file: "src/internal/client/dialing.ts",
    from: "  connected(): void {\n    this.transition(\"Sound\", 0, 0, 0)",
    to: "  connected(): void {\n    if (this.failures === 0) this.transition(\"Sound\", 0, 0, 0)",
    tests: ["test/Connection/connectionsPerEndpoint.test.ts", "test/internal/client/pool.test.ts"]
  },
  {
    name: "A lost call that may have run is made again, though its method is not idempotent",
    room: "client",
    file: "src/internal/client/retry.ts",
    from: "return call.key.isIdempotent || !error.maybeExecuted ? error : undefined",
    to: "return error",
    tests: ["test/internal/client/retry.test.ts"]
  },
  {
    name: "The server is not told when a call that was sent is interrupted",
    room: "client",
    file: "src/internal/client/linkCalls.ts",
    from: "this.session.giveUp(call, !isLate)",
    to: "this.session.giveUp(call, isLate)",
    tests: ["test/Connection/cancel.test.ts"]
  },
  {
    name: "One endpoint more than half of all may be ejected",
    room: "client",
    file: "src/internal/client/outliers.ts",
    from: "(this.ejections.size + 1) * 2 > endpoints",
    to: "this.ejections.size * 2 > endpoints",
    tests: ["test/internal/client/outliers.test.ts", "test/Connection/outliers.test.ts"]
  },
  {
    name: "The arguments of a call that waits for a connection are not copied, so that it sends what they are later",
    room: "client",
    file: "src/internal/client/client.ts",
    from: "return args.length < this.writeFlattenLimit ? ownCopy",
    to: "return args.length >= this.writeFlattenLimit ? ownCopy",
    tests: ["test/Connection.test.ts", "test/Connection/dialing.test.ts", "test/internal/client/failover.test.ts"]
  },

  // ---- server
  {
    name: "One call more than maxConcurrentCalls runs at once",
    room: "server",
    file: "src/internal/server/admission.ts",
    from: "this.running + this.placed >= this.limits.maxConcurrentCalls",
    to: "this.running + this.placed > this.limits.maxConcurrentCalls",
    tests: ["test/internal/server/admission.test.ts"]
  },
  {
    name: "When the grace of a shutdown is over, handlers that still run are not interrupted",
    room: "server",
    file: "src/internal/server/session.ts",
    from: "this.endWriting()\n        return this.stopAll()",
    to: "return this.endWriting()",
    tests: ["test/Server/slowReader.test.ts", "test/Server/shutdown.test.ts"]
  },
  {
    name: "A call whose deadline has passed while it waited for its turn is started all the same",
    room: "server",
    file: "src/internal/server/call.ts",
    from: "if (waiting === undefined || this.isPast(this.deadlineAt)) return",
    to: "if (waiting === undefined) return",
    tests: ["test/Server/lateCalls.test.ts", "test/Server/limits.test.ts"]
  },
  {
    name: "A discarded call, which was answered when it started, is interrupted when its connection is lost",
    room: "server",
    file: "src/internal/server/call.ts",
    from: "if (this.stopped !== undefined || (why === \"lost\" && this.answered)) return",
    to: "if (this.stopped !== undefined) return",
    tests: ["test/Component/discard.test.ts"]
  },
  {
    name: "A client for which too much waits is cut off by the later of its two time limits, and not by the earlier",
    room: "server",
    file: "src/internal/server/unsent.ts",
    from: "Math.min(due, this.since + this.timeoutMillis)",
    to: "Math.max(due, this.since + this.timeoutMillis)",
    tests: ["test/Server/unsent.test.ts", "test/Server/slowReader.test.ts"]
  },

  // ---- component
  {
    name: "A handler that is declared with Rpc.fork counts among the calls that run at once",
    room: "component",
    file: "src/internal/component/incoming.ts",
    from: "if (result.fork) call.exempt()",
    to: "",
    tests: ["test/Component/limits.test.ts"]
  },
  {
    name: "The server runs the middleware of a method in the reverse order",
    room: "component",
    file: "src/internal/component/incoming.ts",
    from: "for (const middleware of middlewares) {",
    to: "for (const middleware of middlewares.toReversed()) {",
    tests: ["test/Component/contract/middleware.test.ts"]
  },

  // ---- resolver
  {
    name: "A polled resolver forgets that it was asked to look again while it was looking",
    room: "resolver",
    file: "src/internal/resolver/polled.ts",
    from: "if (state === \"looking\") transition(\"lookingAgain\")",
    to: "if (state === \"looking\") return",
    tests: ["test/internal/resolver/polled.test.ts"]
  },
  {
    name: "A merged resolver goes on naming the failure of one that has answered again",
    room: "resolver",
    file: "src/internal/resolver/combined.ts",
    from: "failures.delete(resolver)",
    to: "",
    tests: ["test/Connection/resolverProblems.test.ts", "test/Resolver/combinators.test.ts"]
  },

  // ---- kubernetes
  {
    name: "Pods that terminate get calls while others are ready",
    room: "kubernetes",
    file: "src/internal/kubernetes/slices.ts",
    from: "ready.length > 0 ? ready : all",
    to: "ready.length === all.length ? ready : all",
    tests: ["test/internal/resolver/kubernetesSlices.test.ts"]
  },
  {
    name: "Of two kubeconfig entries with one name, that of the later file counts",
    room: "kubernetes",
    file: "src/internal/kubernetes/kubeconfig.ts",
    from: "value !== undefined && !to.has(name)",
    to: "value !== undefined",
    tests: ["test/internal/resolver/kubernetesCluster.test.ts", "test/internal/kubernetes/credentials.test.ts"]
  },

  // ---- balancer
  {
    name: "Round robin goes on with the endpoint that was picked last when the endpoints have changed",
    room: "balancer",
    file: "src/internal/balancer/roundRobin.ts",
    from: "if (picked < (pickedAt[next] ?? 0)) next = index",
    to: "if (picked > (pickedAt[next] ?? 0)) next = index",
    tests: ["test/Balancer.test.ts"]
  },
  {
    name: "Weighted round robin gives an endpoint that was excluded all its missed turns in a row when it is back",
    room: "balancer",
    file: "src/internal/balancer/weighted.ts",
    from: "if (endpoint !== undefined) turns[index] = Math.max",
    to: "if (endpoint === undefined) turns[index] = Math.max",
    tests: ["test/internal/balancer/weighted.test.ts"]
  },

  // ---- net
  {
    name: "The connections of peers without a name count as open for ever",
    room: "net",
    file: "src/internal/net/gate.ts",
    from: "this.#open--\n    if (peer === undefined) return",
    to: "if (peer === undefined) return\n    this.#open--",
    tests: ["test/internal/net/gate.test.ts", "test/Listener/limits.test.ts"]
  },
  {
    name: "A server that stops removes the socket file of the server that has taken its place",
    room: "net",
    file: "src/internal/net/listen.ts",
    from: "present.ino === identity?.ino && present.dev === identity.dev",
    to: "present.dev === identity?.dev",
    tests: ["test/Listener/unix.test.ts"]
  },

  // ---- telemetry
  {
    name: "A duration that is exactly a boundary of the histogram counts in the bucket above",
    room: "telemetry",
    file: "src/internal/telemetry/series.ts",
    from: "seconds > at(boundaries, bucket)",
    to: "seconds >= at(boundaries, bucket)",
    tests: ["test/internal/telemetry/metrics.test.ts", "test/internal/telemetry/calls.test.ts"]
  },
  {
    name: "The gauges of an endpoint vanish when the first of several Connections to it ends",
    room: "telemetry",
    file: "src/internal/telemetry/metrics.ts",
    from: "if (!this.sources.delete(source) || this.sources.size > 0) return false",
    to: "if (!this.sources.delete(source)) return false",
    tests: ["test/internal/telemetry/metrics.test.ts", "test/Connection/metricsOfEndpoints.test.ts"]
  },

  // ---- cli
  {
    name: "The command refuses arguments in hex or Base64 that take several lines",
    room: "cli",
    file: "src/cli/bytes.ts",
    from: ".decode(given).replaceAll(/\\s/g, \"\")",
    to: ".decode(given)",
    tests: ["test/cli/call.test.ts"]
  },
  {
    name: "A line that the command cuts to the width of the terminal is one column too wide",
    room: "cli",
    file: "src/cli/text.ts",
    from: "let left = columns - 1",
    to: "let left = columns",
    tests: ["test/cli/text.test.ts"]
  },

  // ---- testing
  {
    name: "A writer on the in-memory network is not held up by bytes that its reader has not read",
    room: "testing",
    file: "src/internal/testing/wire.ts",
    from: "this.#bytesUnderway + farEnd.receiver.readableLength < windowSize",
    to: "this.#bytesUnderway < windowSize",
    tests: ["test/internal/testing/duplexPair.test.ts", "test/Connection/keepAlive.test.ts"]
  },
  {
    name: "A fault on the in-memory network does not concern the connections that exist",
    room: "testing",
    file: "src/internal/testing/host.ts",
    from: "for (const pair of this.#connections) pair.impair(impairment)",
    to: "",
    tests: ["test/testing/TestNetworkFaults.test.ts"]
  },

  // ---- public
  {
    name: "A longer deadline inside of a shorter one takes its place",
    room: "public",
    file: "src/Deadline.ts",
    from: "ambientMillis <= ownMillis",
    to: "ambientMillis >= ownMillis",
    tests: ["test/Deadline.test.ts"]
  },
  {
    name: "Two HandlerMaps that are made of the same one share what each of them adds",
    room: "public",
    file: "src/HandlerMap.ts",
    from: "this.#all.size === this.#size",
    to: "this.#all.size >= this.#size",
    tests: ["test/HandlerMap.test.ts"]
  }
]
