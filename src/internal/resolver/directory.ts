/**
 * A resolver of the Unix sockets in a directory. It does not know when it is asked to look: see `polled.ts`.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import * as Stream from "effect/Stream"
import * as Endpoint from "../../Endpoint.ts"
import { effectOf, unexpected } from "../guard.ts"
import { positiveMillis } from "../options.ts"
import { nowMillis } from "../time/clock.ts"
import { sorted } from "./endpoints.ts"
import { type Resolver, ResolverError } from "./model.ts"
import { polled } from "./polled.ts"

/**
 * How often `Resolver.directory` reads its directory.
 *
 * @category models
 * @since 0.1.0
 */
export interface DirectoryOptions {
  /** How often the directory is read if its watch reports no change. Default: 2 seconds. */
  readonly interval?: Duration.Input | undefined
}

/** The shortest time between two looks. Events of a directory come in bursts. */
const leastMillis = 20
/** The time to the next look after a new socket without a server was found. It doubles with each look. */
const firstRecheckMillis = 50
/** The shortest time between two checks of all sockets. */
const checkAllMillis = 1000
const checkTimeout = "1 second"
const concurrency = 16

/** Identifies the file of a socket. A server that starts again makes a new one. */
const identityOf = ({ dev, ino, mtime }: FileSystem.File.Info): string =>
  `${dev} ${Option.getOrElse(ino, () => 0n)} ${Option.match(mtime, { onNone: () => 0, onSome: (at) => at.getTime() })}`

const isMissing = (error: PlatformError): boolean => error.reason._tag === "NotFound"

/** Whether no server listens on the socket, or the socket is gone. Any other error is left to the dial of a call. */
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
  /** The sockets with a server at their last check: names and files. */
  let listening = new Map<string, string>()
  /** The sockets without a server, and when they are checked again. */
  let stale = new Map<string, string>()
  let recheckMillis = firstRecheckMillis
  let recheckAt = -Infinity
  /** Whether all sockets have to be checked: one may have lost its server. */
  let isCheckWanted = false
  let checkedAllAt = -Infinity

  const unreadable = (cause: PlatformError): ResolverError =>
    new ResolverError({ message: `the directory "${path}" cannot be read: ${cause.message}`, cause })

  /** The file of a socket; undefined for other files and for sockets that are gone. `note` gets other problems. */
  const socketAt = (name: string, note: (problem: string) => void): Effect.Effect<string | undefined> =>
    effectOf("the stat of FileSystem", () => fs.stat(`${path}/${name}`)).pipe(
      Effect.map((info) => info.type === "Socket" ? identityOf(info) : undefined),
      Effect.catch((error) => {
        if (!isMissing(error)) note(`${path}/${name} cannot be checked: ${error.message}`)
        return Effect.succeed(undefined)
      })
    )

  /** Why there are no endpoints. */
  const whyNone = (exists: boolean, hasStale: boolean): string => {
    if (!exists) return `the directory "${path}" does not exist`
    // It does not list them: each change of the problem would resume the waiters.
    return hasStale
      ? `no server listens on the sockets in the directory "${path}"`
      : `there is no socket in the directory "${path}"`
  }

  const look = Effect.gen(function*() {
    if (path === "") return yield* new ResolverError({ message: "the path of the directory is empty" })
    const read = effectOf("the readDirectory of FileSystem", () => fs.readDirectory(path))
    const present = yield* Effect.catchIf(read, isMissing, () => Effect.succeed(undefined))
    const now = nowMillis(clock)
    const isCheckDue = isCheckWanted && now - checkedAllAt >= checkAllMillis
    if (isCheckDue) {
      isCheckWanted = false
      checkedAllAt = now
    }
    const foundStale = new Map<string, string>()
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
        foundStale.set(name, file)
        return []
      }),
      { concurrency }
    )
    const sockets = found.flat()
    listening = new Map(sockets.map(({ file, name }) => [name, file]))
    // A new socket may have a server in a moment, even if the others have had none for long. A look that came before
    // the recheck was due says nothing about the others.
    if ([...foundStale].some(([name, file]) => stale.get(name) !== file)) recheckMillis = firstRecheckMillis
    else if (now >= recheckAt) recheckMillis *= 2
    stale = foundStale
    recheckAt = now + recheckMillis
    const untilCheck = isCheckWanted ? checkedAllAt + checkAllMillis - now : Infinity
    return {
      endpoints: sorted(sockets.map(({ endpoint }) => endpoint)),
      ttlMillis: Math.min(intervalMillis, untilCheck, stale.size === 0 ? Infinity : recheckMillis),
      problem: unusable ?? (sockets.length > 0 ? undefined : whyNone(present !== undefined, stale.size > 0))
    }
  }).pipe(
    Effect.catchTag("PlatformError", (cause) => Effect.fail(unreadable(cause))),
    Effect.onInterrupt(() =>
      Effect.sync(() => {
        isCheckWanted = true
      })
    )
  )

  /**
   * Watches the directory, and starts a new watch each interval. If the directory was removed and made again, the old
   * watch still follows the removed one. If there is no directory, there is no watch.
   */
  const watch = (lookSoon: () => void): Effect.Effect<void> =>
    effectOf("the watch of FileSystem", () => {
      const events = fs.watch(path, { onReady: lookSoon })
      if (!Stream.isStream(events)) throw unexpected("the watch of FileSystem", "a Stream", events)
      return Stream.runForEach(events, () => Effect.sync(lookSoon))
    }).pipe(
      Effect.ignore,
      // The directory is read each interval anyway.
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
    watch
  })
  return {
    ...resolver,
    refresh: Effect.sync(() => {
      isCheckWanted = true
      lookSoon()
    })
  }
})
