/**
 * The table that `watch` shows: pure functions from the state of a Connection to lines. It does not know a terminal.
 */
import type { ConnectionState, EndpointState } from "../Connection.ts"
import * as Text from "./text.ts"

/** The calls that an endpoint has received: in total, and per second recently. */
export interface Calls {
  readonly count: number
  readonly perSecond: number
}

/** The calls that `watch` makes itself. */
export interface Made {
  readonly answered: number
  readonly failed: number
  readonly lastError: string | undefined
  /** By address. */
  readonly byEndpoint: ReadonlyMap<string, Calls>
}

/** The content of the table. */
export interface Snapshot {
  /** The text of the resolver. */
  readonly source: string
  /** ISO 8601. */
  readonly time: string
  readonly endpoints: ConnectionState["endpoints"]
  /** Why the resolver's last answer failed; undefined if it did not. */
  readonly resolverFailure: string | undefined
  /** Why there are no endpoints, or fewer than expected, as the resolver says. */
  readonly resolverProblem: string | undefined
  /** Undefined if no calls are made. */
  readonly calls: Made | undefined
}

/** The size in columns and rows of a terminal. */
export interface Size {
  readonly columns: number
  readonly rows: number
}

const noCalls: Calls = { count: 0, perSecond: 0 }

const callsOf = ({ byEndpoint }: Made, { address }: EndpointState): Calls => byEndpoint.get(address) ?? noCalls

/** One line of JSON, for `jq` and other programs. */
export const jsonOf = ({ calls, endpoints, resolverFailure, resolverProblem, time }: Snapshot): string =>
  Text.json({
    time,
    endpoints: endpoints.map((endpoint) => ({
      ...endpoint,
      latency: endpoint.latency ?? null,
      lastFailure: endpoint.lastFailure ?? null,
      ...(calls !== undefined && {
        calls: callsOf(calls, endpoint).count,
        callsPerSecond: callsOf(calls, endpoint).perSecond
      })
    })),
    resolverFailure: resolverFailure ?? null,
    resolverProblem: resolverProblem ?? null,
    ...(calls !== undefined && {
      answered: calls.answered,
      failed: calls.failed,
      lastError: calls.lastError ?? null
    })
  })

/** The state of an endpoint, and why it gets no calls. */
const stateOf = ({ inBackoff, isEjected, isServing, state }: EndpointState): string =>
  [
    state,
    ...(isServing ? [] : ["not serving"]),
    ...(isEjected ? ["ejected"] : []),
    ...(inBackoff ? ["backoff"] : [])
  ].join(", ")

const millis = (latency: number | undefined): string => {
  if (latency === undefined) return "-"
  if (latency < 10) return `${latency.toFixed(2)} ms`
  return latency < 1000 ? `${latency.toFixed(0)} ms` : `${(latency / 1000).toFixed(1)} s`
}

interface ShownColumn extends Text.Column {
  readonly of: (endpoint: EndpointState) => string
}

const columnsOf = (calls: Made | undefined): ReadonlyArray<ShownColumn> => [
  { title: "ADDRESS", of: ({ address }) => address },
  { title: "STATE", min: "Idle, backoff".length, of: stateOf },
  { title: "IN FLIGHT", right: true, of: ({ callsInFlight }) => `${callsInFlight}` },
  { title: "LATENCY", right: true, min: "1.00 ms".length, of: ({ latency }) => millis(latency) },
  ...(calls === undefined ? [] : [
    { title: "CALLS", right: true, min: 7, of: (endpoint: EndpointState) => `${callsOf(calls, endpoint).count}` },
    { title: "CALLS/S", right: true, of: (endpoint: EndpointState) => callsOf(calls, endpoint).perSecond.toFixed(1) }
  ]),
  { title: "LAST FAILURE", of: ({ lastFailure = "" }) => lastFailure }
]

/** The table as lines. If a terminal's size is given, they fit into it. */
export const linesOf = (snapshot: Snapshot, size?: Size): ReadonlyArray<string> => {
  const { calls, endpoints, resolverFailure, resolverProblem, source, time } = snapshot
  const columns = columnsOf(calls)
  const active = endpoints.filter(({ state }) => state === "Active").length
  const before = [
    `${Text.printable(source)}  ${endpoints.length} endpoint${
      endpoints.length === 1 ? "" : "s"
    }, ${active} active  ${time}`,
    ...(resolverFailure === undefined ? [] : [`the resolver fails: ${Text.printable(resolverFailure)}`]),
    ...(resolverProblem === undefined ? [] : [`the resolver says: ${Text.printable(resolverProblem)}`])
  ]
  const after = calls === undefined ? [] : [
    `${calls.answered} calls answered, ${calls.failed} failed${
      calls.lastError === undefined ? "" : `, the last with ${Text.printable(calls.lastError)}`
    }`
  ]
  const table = Text.grid(columns, endpoints.map((endpoint) => columns.map(({ of }) => of(endpoint))))
  const room = size === undefined ? Infinity : Math.max(2, size.rows - before.length - after.length)
  const hidden = table.length - (room - 1)
  const shown = table.length <= room ? table : [...table.slice(0, room - 1), `… and ${hidden} more`]
  const lines = [...before, ...shown, ...after]
  return size === undefined ? lines : lines.slice(0, size.rows).map((line) => Text.clip(line, size.columns))
}
