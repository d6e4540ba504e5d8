/**
 * Opens the listening socket of a `node:net` server, on TCP or in a file. It knows nothing of its connections.
 */
import * as Effect from "effect/Effect"
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import { isAbstract, longestPath, type UnixTarget } from "./address.ts"
import { lookup } from "./lookup.ts"

const attempt = <A>(f: () => A): Effect.Effect<A, unknown> => Effect.try({ try: f, catch: (error) => error })

const close = (server: net.Server): Effect.Effect<void> => Effect.sync(() => void server.close())

/** Begins to listen. If that fails, it can be tried again. */
const begin = (server: net.Server, options: net.ListenOptions): Effect.Effect<void, unknown> =>
  Effect.callback<void, unknown>((resume) => {
    const onListening = () => {
      off()
      resume(Effect.void)
    }
    const onError = (error: Error) => {
      off()
      resume(Effect.fail(error))
    }
    const off = () => {
      server.off("listening", onListening)
      server.off("error", onError)
    }
    server.once("listening", onListening)
    server.once("error", onError)
    server.listen(options)
    return Effect.sync(off)
  })

/** Begins to listen. If that fails or is interrupted, the server is closed. */
const listen = (server: net.Server, options: net.ListenOptions): Effect.Effect<void, unknown> =>
  Effect.onError(begin(server, options), () => close(server))

/** The errors for an address that does not belong to this machine, or of a family that the system does not support. */
const notOfThisMachine: ReadonlySet<unknown> = new Set(["EADDRNOTAVAIL", "EAFNOSUPPORT"])

/**
 * Listens on TCP, on the first address of a name that belongs to this machine. If that address is in use, the next one
 * is not tried: if two servers get the same name, the second one must fail.
 */
export const listenOnTcp = (
  server: net.Server,
  host: string,
  options: net.ListenOptions
): Effect.Effect<void, unknown> =>
  Effect.gen(function*() {
    if (host === "") return yield* begin(server, options)
    const addresses = yield* lookup(host, 0)
    const tryFrom = (i: number): Effect.Effect<void, unknown> => {
      const { address } = addresses[i] ?? { address: host }
      return Effect.catch(begin(server, { ...options, host: address }), (error) => {
        const isElsewhere = error instanceof Error && "code" in error && notOfThisMachine.has(error.code)
        return isElsewhere && i + 1 < addresses.length ? tryFrom(i + 1) : Effect.fail(error)
      })
    }
    yield* tryFrom(0)
  }).pipe(Effect.onError(() => close(server)))

type Found = fs.BigIntStats | undefined

const find = (file: string): Found => fs.lstatSync(file, { bigint: true, throwIfNoEntry: false })

// The next file can get the inode number of a deleted file at once, but it has another time of change.
const isSame = (a: Found, b: Found): boolean =>
  a === b || (a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino && a.ctimeNs === b.ctimeNs)

/** Whether a server accepts connections at this socket file. */
const isServed = (file: string): Effect.Effect<boolean, unknown> =>
  Effect.callback<boolean, unknown>((resume) => {
    const socket = net.connect({ path: file })
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED" || error.code === "ENOENT") return resume(Effect.succeed(false))
      // Its queue of connections is full: there is a server.
      resume(error.code === "EAGAIN" ? Effect.succeed(true) : Effect.fail(error))
    })
    socket.once("connect", () => {
      socket.destroy()
      resume(Effect.succeed(true))
    })
    return Effect.sync(() => socket.destroy())
  })

/**
 * Moves a listening socket to its place. It fails if another file is there, unless that is the socket of a dead server.
 */
const moveInto = (from: string, file: string): Effect.Effect<void, unknown> =>
  Effect.gen(function*() {
    while (true) {
      const existing = yield* attempt(() => find(file))
      if (existing !== undefined) {
        if (!existing.isSocket()) return yield* Effect.fail(new Error(`${file} exists and is not a socket`))
        if (yield* isServed(file)) return yield* Effect.fail(new Error(`another server listens on ${file}`))
      }
      // Checked again and renamed without a yield: if two servers start together, one of them finds the other.
      const moved = yield* attempt(() => isSame(existing, find(file)) && (fs.renameSync(from, file), true))
      if (moved) return
    }
  })

/** Characters that are rare in names of sockets. */
const oddCharacters = "~+=,%#^:;!$&'()*?{}<>|"

/**
 * Names of at most `longest` bytes that no other file has or gets, one after the other. Short names have rare
 * characters. Otherwise another server might listen on the same short name, such as `/run/a`, and Node removes the file
 * of this name again when its server closes.
 */
const randomNames = (longest: number): () => string => {
  // Not only digits: Node takes the path `.12345678` for a port.
  if (longest >= 5) return () => `.s${randomBytes(4).toString("hex").slice(1, longest - 1)}`
  // From a random name on, each in turn: there may be so few that random ones would miss the last free one.
  const from = randomBytes(4).readUInt32LE()
  let tried = 0
  return () => {
    let left = from + tried++
    return Array.from({ length: longest }, () => {
      const character = oddCharacters.charAt(left % oddCharacters.length)
      left = Math.floor(left / oddCharacters.length)
      return character
    }).join("")
  }
}

/** How many names are tried if names are taken. */
const mostNames = 100

/**
 * Listens under a temporary name in the directory of a file, and gives its path. It is not too long for an address if
 * the path of the file is not.
 */
const listenNear = (server: net.Server, file: string): Effect.Effect<string, unknown> => {
  const directory = path.dirname(file)
  const nextName = randomNames(longestPath - Buffer.byteLength(path.join(directory, "x")) + 1)
  const tryName = (left: number): Effect.Effect<string, unknown> => {
    const own = path.join(directory, nextName())
    if (own === path.normalize(file)) return tryName(left)
    // `exclusive`: the file belongs to this process, even in a worker of node:cluster.
    return begin(server, { path: own, exclusive: true }).pipe(
      Effect.as(own),
      Effect.catch((error) => {
        if (!(error instanceof Error)) return Effect.fail(error)
        const isTaken = "code" in error && error.code === "EADDRINUSE"
        return isTaken && left > 1
          ? tryName(left - 1)
          : Effect.fail(new Error(error.message.replaceAll(own, file), { cause: error }))
      })
    )
  }
  return Effect.onError(tryName(mostNames), () => close(server))
}

/**
 * Listens on a socket file, and gives the effect that removes the file if it still belongs to this server.
 *
 * The socket is made under a temporary name, and moved to `file` when it is ready. So `mode` holds from the start,
 * clients find either the old socket or the new one, and Node never removes the file of a successor when it closes.
 */
const listenOnFile = (server: net.Server, file: string, mode: number | undefined) =>
  Effect.gen(function*() {
    const place = path.resolve(file)
    // Node would say that there is no permission.
    if (!fs.existsSync(path.dirname(place))) {
      return yield* Effect.fail(new Error(`there is no directory ${path.dirname(file)}`))
    }
    const own = yield* listenNear(server, file)
    const identity = yield* Effect.gen(function*() {
      if (mode !== undefined) yield* attempt(() => fs.chmodSync(own, mode))
      yield* moveInto(own, file)
      return yield* attempt(() => find(place))
    }).pipe(Effect.onError(() => close(server)))
    return Effect.ignore(attempt(() => {
      const present = find(place)
      // While the server holds its socket, no other file gets the inode number of the file.
      if (present !== undefined && present.ino === identity?.ino && present.dev === identity.dev) fs.unlinkSync(place)
    }))
  })

/** Listens on a Unix socket, and gives the effect that removes its file. That must run before the server is closed. */
export const listenOnUnix = (
  server: net.Server,
  target: UnixTarget,
  mode: number | undefined
): Effect.Effect<Effect.Effect<void>, unknown> =>
  isAbstract(target)
    ? Effect.as(listen(server, { path: target.path, exclusive: true }), Effect.void)
    : listenOnFile(server, target.path, mode)
