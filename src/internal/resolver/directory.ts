/**
 * A resolver whose endpoints are the Unix sockets in a directory.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import * as Stream from "effect/Stream"
import * as Endpoint from "../../Endpoint.ts"
import type { DirectoryOptions, Resolver } from "../../Resolver.ts"
import { effectOf, unexpected } from "../guard.ts"
import { positiveMillis } from "../options.ts"
import { nowMillis } from "../time/clock.ts"
import { sorted } from "./endpoints.ts"
import { ResolverError } from "./model.ts"
import { polled } from "./polled.ts"

/** Events come in bursts: a look is this long after the one before at the earliest. */
const leastMillis = 20
/** After a socket on which nobody listens was seen, the next look comes so soon; then twice as late each time. */
const firstRecheckMillis = 50
/** So often at most are all sockets checked, where it is said that one may be out of use. */
const checkAllMillis = 1000
const checkTimeout = "1 second"
const concurrency = 16

/** The file of a socket; a server that starts again makes another. */
const identityOf = ({ dev, ino, mtime }: FileSystem.File.Info): string =>
  `${dev} ${Option.getOrElse(ino, () => 0n)} ${Option.match(mtime, { onNone: () => 0, onSome: (at) => at.getTime() })}`

const isMissing = (error: PlatformError): boolean => error.reason._tag === "NotFound"

/** Nobody listens on the socket, or it has gone. What else may be wrong is said better by whoever dials it. */
const isStale = ({ cause }: Endpoint.DialError): boolean =>
  cause instanceof Error && "code" in cause && (cause.code === "ECONNREFUSED" || cause.code === "ENOENT")

const isListening = (endpoint: Endpoint.Endpoint): Effect.Effect<boolean> =>
  Effect.scoped(endpoint.dial).pipe(
    Effect.as(true),
    Effect.catch((error) => Effect.succeed(!isStale(error))),
    Effect.timeoutOrElse({ duration: checkTimeout, orElse: () => Effect.succeed(true) })
  )

export const directory = Effect.fnUntraced(function*(
  directoryPath: string,
  options: DirectoryOptions | undefined
): Effect.fn.Return<Resolver, never, FileSystem.FileSystem> {
  const path = directoryPath.length > 1 ? directoryPath.replace(/\/+$/, "") : directoryPath
  const intervalMillis = positiveMillis("interval", options?.interval, "2 seconds")
  const fs = yield* FileSystem.FileSystem
  const clock = yield* Clock.Clock
  /** The sockets that somebody was listening on when they were checked last: their names and files. */
  let listening = new Map<string, string>()
  /** Those on which nobody was, how long after the last look they are tried again, and when that is. */
  let unused = new Map<string, string>()
  let recheckMillis = firstRecheckMillis
  let recheckAt = -Infinity
  let mayBeStale = false
  let checkedAllAt = -Infinity

  const unreadable = (cause: PlatformError): ResolverError =>
    new ResolverError({ message: `the directory "${path}" cannot be read: ${cause.message}`, cause })

  /**
   * The file of a socket; undefined for what is none, or is none any more, or cannot be looked at, which is said then.
   */
  const socketAt = (name: string, note: (problem: string) => void): Effect.Effect<string | undefined> =>
    effectOf("the stat of FileSystem", () => fs.stat(`${path}/${name}`)).pipe(
      Effect.map((info) => info.type === "Socket" ? identityOf(info) : undefined),
      Effect.catch((error) => {
        if (!isMissing(error)) note(`${path}/${name} cannot be looked at: ${error.message}`)
        return Effect.succeed(undefined)
      })
    )

  /** Why there are no sockets. */
  const whyNone = (isThere: boolean, isStale: boolean): string => {
    if (!isThere) return `the directory "${path}" does not exist`
    // Which they are is left out: news of that would only keep those busy who wait for endpoints.
    return isStale
      ? `nobody listens on the sockets in the directory "${path}"`
      : `there is no socket in the directory "${path}"`
  }

  const look = Effect.gen(function*() {
    if (path === "") return yield* new ResolverError({ message: "the path of the directory is empty" })
    const read = effectOf("the readDirectory of FileSystem", () => fs.readDirectory(path))
    const present = yield* Effect.catchIf(read, isMissing, () => Effect.succeed(undefined))
    const now = nowMillis(clock)
    const isCheckDue = mayBeStale && now - checkedAllAt >= checkAllMillis
    if (isCheckDue) {
      mayBeStale = false
      checkedAllAt = now
    }
    const stale = new Map<string, string>()
    let unusable: string | undefined
    const found = yield* Effect.forEach(
      (present ?? []).filter((name) => !name.startsWith(".")),
      Effect.fnUntraced(function*(name) {
        const file = yield* socketAt(name, (problem) => {
          unusable ??= problem
        })
        if (file === undefined) return []
        const endpoint = Endpoint.unix(`${path}/${name}`)
        const isKnown = !isCheckDue && listening.get(name) === file
        if (isKnown || (yield* isListening(endpoint))) return [{ name, file, endpoint }]
        stale.set(name, file)
        return []
      }),
      { concurrency }
    )
    const sockets = found.flat()
    listening = new Map(sockets.map(({ file, name }) => [name, file]))
    // One that is new may have a server in a moment, however long others have had none. A look for another reason says nothing about that.
    if ([...stale].some(([name, file]) => unused.get(name) !== file)) recheckMillis = firstRecheckMillis
    else if (now >= recheckAt) recheckMillis *= 2
    unused = stale
    recheckAt = now + recheckMillis
    const untilCheck = mayBeStale ? checkedAllAt + checkAllMillis - now : Infinity
    return {
      endpoints: sorted(sockets.map(({ endpoint }) => endpoint)),
      goodForMillis: Math.min(intervalMillis, untilCheck, stale.size === 0 ? Infinity : recheckMillis),
      problem: unusable ?? (sockets.length > 0 ? undefined : whyNone(present !== undefined, stale.size > 0))
    }
  }).pipe(
    Effect.catchTag("PlatformError", (cause) => Effect.fail(unreadable(cause))),
    Effect.onInterrupt(() =>
      Effect.sync(() => {
        mayBeStale = true
      })
    )
  )

  /**
   * A watch of a directory that was removed and made again watches the one that has gone, and where there is none yet, none is possible:
   * hence a new one each interval.
   */
  const watch = (lookSoon: () => void): Effect.Effect<void> =>
    effectOf("the watch of FileSystem", () => {
      const events = fs.watch(path, { onReady: lookSoon })
      if (!Stream.isStream(events)) throw unexpected("the watch of FileSystem", "a Stream", events)
      return Stream.runForEach(events, () => Effect.sync(lookSoon))
    }).pipe(
      Effect.ignore,
      // It is looked each interval all the same.
      Effect.catchDefect(() => Effect.void),
      Effect.andThen(Effect.never),
      Effect.timeoutOption(Duration.millis(intervalMillis)),
      Effect.forever
    )

  const { lookSoon, resolver } = yield* polled({
    kind: "directory",
    look: () => look,
    leastMillis,
    retryMillis: intervalMillis,
    beside: watch
  })
  return {
    ...resolver,
    refresh: Effect.sync(() => {
      mayBeStale = true
      lookSoon()
    })
  }
})
