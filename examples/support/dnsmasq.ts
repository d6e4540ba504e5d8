/**
 * A real DNS server: dnsmasq, a child of this process on a port of its own. Its host records are changed while it runs,
 * its other records by starting it again.
 */
import { Data, Deferred, Effect, Random, type Scope } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { createSocket } from "node:dgram"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** Debian has it where not everybody looks. */
const env = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin` }

/** Whether there is one: on Debian after `apt-get install dnsmasq-base`. */
export const hasDnsmasq: Effect.Effect<boolean> = Effect.sync(() =>
  spawnSync("dnsmasq", ["--version"], { env }).status === 0
)

class DnsmasqFailed extends Data.TaggedError("DnsmasqFailed")<{ readonly message: string }> {}

/** Whether nobody has a port, of UDP and of TCP. */
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
 * A port below those that the system gives to clients: else one that asks while the server is stopped could be given
 * it.
 */
const freePort = Random.nextIntBetween(15_000, 32_000).pipe(
  Effect.repeat({ until: isFree })
)

/** What it knows: addresses by name, and options for all else. */
export interface Zone {
  readonly hosts?: Readonly<Record<string, ReadonlyArray<string>>>
  readonly options?: ReadonlyArray<string>
}

export interface Dnsmasq {
  /** For the options of a resolver of DNS. */
  readonly nameServers: ReadonlyArray<string>
  /** Has it know other addresses. */
  readonly setHosts: (hosts: NonNullable<Zone["hosts"]>) => Effect.Effect<void>
  /** Stops it, as a signal does that it does not survive. */
  readonly stop: Effect.Effect<void>
  /** Starts it again, on the same port, with another zone. */
  readonly start: (zone: Zone) => Effect.Effect<void, DnsmasqFailed, Scope.Scope>
}

const hostsFile = (hosts: NonNullable<Zone["hosts"]>): string =>
  Object.entries(hosts).flatMap(([name, addresses]) => addresses.map((address) => `${address} ${name}\n`)).join("")

/** Starts it; it ends with the Scope. */
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

  /** Waits until it has printed a line like that, from now on. */
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
    // It reads them after it has said that it is started: whoever changes them is to wait for another reading.
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
