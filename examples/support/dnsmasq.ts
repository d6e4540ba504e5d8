/**
 * Runs a real DNS server: dnsmasq, as a child process on its own port. Host records can be changed while it runs. A
 * change of other records requires a restart.
 */
import { Data, Deferred, Effect, Random, type Scope } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { createSocket } from "node:dgram"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import "./closedOutput.ts"

/** Debian installs dnsmasq in a directory that is not on every user's PATH. */
const env = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin` }

/** Whether dnsmasq is installed. On Debian, `apt-get install dnsmasq-base` installs it. */
export const hasDnsmasq: Effect.Effect<boolean> = Effect.sync(() =>
  spawnSync("dnsmasq", ["--version"], { env }).status === 0
)

class DnsmasqFailed extends Data.TaggedError("DnsmasqFailed")<{ readonly message: string }> {}

/** Whether a port is free, for both UDP and TCP. */
const isFree = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const udp = createSocket("udp4")
    const tcp = createServer()
    const settle = (free: boolean) => {
      udp.close()
      tcp.close(() => resume(Effect.succeed(free)))
    }
    udp.once("error", () => settle(false))
    tcp.once("error", () => settle(false))
    udp.bind(port, "127.0.0.1", () => tcp.listen(port, "127.0.0.1", () => settle(true)))
  })

/**
 * Finds a free port below the range of ephemeral ports. Otherwise, the system could assign the port to a client while
 * the server is stopped.
 */
const freePort = Random.nextIntBetween(15_000, 32_000).pipe(
  Effect.repeat({ until: isFree })
)

/** The records of the server: addresses by name, and options of dnsmasq for all other records. */
export interface Zone {
  readonly hosts?: Readonly<Record<string, ReadonlyArray<string>>>
  readonly options?: ReadonlyArray<string>
}

export interface Dnsmasq {
  /** The addresses of the server, for the options of a DNS resolver. */
  readonly nameServers: ReadonlyArray<string>
  /** Replaces the host records. */
  readonly setHosts: (hosts: NonNullable<Zone["hosts"]>) => Effect.Effect<void>
  /** Kills the server with SIGKILL. */
  readonly stop: Effect.Effect<void>
  /** Starts the server again on the same port, with another zone. */
  readonly start: (zone: Zone) => Effect.Effect<void, DnsmasqFailed, Scope.Scope>
}

const hostsFile = (hosts: NonNullable<Zone["hosts"]>): string =>
  Object.entries(hosts).flatMap(([name, addresses]) => addresses.map((address) => `${address} ${name}\n`)).join("")

/** Starts a server. It stops when the Scope closes. */
export const startDnsmasq = Effect.fnUntraced(function*(
  zone: Zone
): Effect.fn.Return<Dnsmasq, DnsmasqFailed, Scope.Scope> {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "dnsmasq-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
  )
  const file = join(directory, "hosts")
  const hostsRead = new RegExp(`read ${file}`)
  const port = yield* freePort
  let child: ReturnType<typeof spawn> | undefined
  let output = ""
  const watching = new Set<() => void>()

  /** Waits until the server prints text that matches the pattern. Text that it printed before does not count. */
  const printed = (pattern: RegExp) => {
    output = ""
    return Effect.callback<void>((resume) => {
      const look = () => {
        if (!pattern.test(output)) return
        watching.delete(look)
        resume(Effect.void)
      }
      watching.add(look)
      look()
      return Effect.sync(() => watching.delete(look))
    })
  }

  const stop = Effect.callback<void>((resume) => {
    const stopping = child
    child = undefined
    if (stopping === undefined || stopping.exitCode !== null || stopping.signalCode !== null) return resume(Effect.void)
    stopping.once("exit", () => resume(Effect.void))
    stopping.kill("SIGKILL")
  })

  const start = Effect.fnUntraced(function*({ hosts = {}, options = [] }: Zone) {
    writeFileSync(file, hostsFile(hosts))
    const failed = yield* Deferred.make<never, DnsmasqFailed>()
    // dnsmasq reads the hosts file after it reports that it has started. Wait for this first reading, so that a later
    // change waits for a new one.
    const ready = printed(hostsRead)
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        child = spawn("dnsmasq", [
          "--no-daemon",
          "--conf-file=/dev/null",
          "--pid-file",
          "--no-resolv",
          "--no-hosts",
          `--addn-hosts=${file}`,
          "--local=/internal/",
          `--port=${port}`,
          "--listen-address=127.0.0.1",
          "--bind-interfaces",
          ...options
        ], { env, stdio: ["ignore", "ignore", "pipe"] })
        child.stderr?.setEncoding("utf8").on("data", (text: string) => {
          output += text
          for (const look of [...watching]) look()
        })
        const fail = (why: string) =>
          Deferred.doneUnsafe(failed, Effect.fail(new DnsmasqFailed({ message: `dnsmasq: ${why}\n${output}` })))
        child.once("error", (error) => fail(error.message))
        child.once("exit", (code) => fail(`exit code ${code}`))
      }),
      () => stop
    )
    yield* Effect.raceFirst(ready, Deferred.await(failed))
  })

  yield* start(zone)
  return {
    nameServers: [`127.0.0.1:${port}`],
    start,
    stop,
    setHosts: (hosts) =>
      Effect.suspend(() => {
        writeFileSync(file, hostsFile(hosts))
        const read = printed(hostsRead)
        child?.kill("SIGHUP")
        return read
      })
  }
})
