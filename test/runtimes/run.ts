/**
 * Runs a client and a server on each pair of Node, Bun and Deno, and prints what works.
 *
 * `node test/runtimes/run.ts` looks for Bun and Deno in `.runtimes/node_modules/.bin`; what is not there is left out,
 * and the program says so. `--all` makes that a failure. It fails, too, where something does not work that is not
 * listed in `limits`, and where something works that is listed there.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, FileSystem, Queue, Schema, Stdio, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { fileURLToPath } from "node:url"
import { makeAuthority } from "../../examples/support/certificates.ts"
import { Checked, Given, Listening } from "./contract.ts"

const folder = new URL(".", import.meta.url)
const binaries = fileURLToPath(new URL("../../.runtimes/node_modules/.bin/", folder))

interface Runtime {
  readonly name: string
  readonly command: string
  readonly args: ReadonlyArray<string>
}

const known: ReadonlyArray<Runtime> = [
  { name: "Node", command: process.execPath, args: [] },
  { name: "Bun", command: `${binaries}bun`, args: ["run"] },
  { name: "Deno", command: `${binaries}deno`, args: ["run", "--allow-all", "--no-lock"] }
]

/** What does not work, as `client → server: transport check`. */
const limits: ReadonlySet<string> = new Set(["Node", "Bun", "Deno"].flatMap((other) => [
  // Deno ignores revocation lists. So we refuse them there, rather than let a revoked certificate in.
  `${other} → Deno: mtls server's revocation list`,
  `${other} → Deno: mtls a revoked client is refused`,
  `Deno → ${other}: mtls client's revocation list`
]))

const start = Effect.fnUntraced(function*(runtime: Runtime, program: string, given: typeof Given.Type) {
  const child = yield* ChildProcess.make(
    runtime.command,
    [...runtime.args, fileURLToPath(new URL(program, folder))],
    {
      env: { RUNTIMES: Schema.encodeSync(Given)(given), NO_COLOR: "1" },
      extendEnv: true,
      stderr: "inherit",
      forceKillAfter: "1 second"
    }
  )
  const lines = yield* Queue.unbounded<string>()
  const isForUs = (line: string) => line.startsWith("{") || line === "stop the server"
  yield* child.stdout.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    // Anything else is what the program logs.
    Stream.runForEach((line) =>
      isForUs(line) ? Queue.offer(lines, line) : Console.log(`${runtime.name} ${program}: ${line}`)
    ),
    Effect.forkScoped
  )
  return { child, next: Effect.timeout(Queue.take(lines), "30 seconds") }
})

/** The outcomes of one pair: what failed, by `transport check`, empty where it worked. */
const runPair = Effect.fnUntraced(function*(client: Runtime, server: Runtime, given: typeof Given.Type) {
  const outcomes = new Map<string, string>()
  const serving = yield* start(server, "server.ts", given)
  const { addresses, crl } = yield* Schema.decodeUnknownEffect(Listening)(yield* serving.next)
  outcomes.set("mtls server's revocation list", crl)
  const calling = yield* start(client, "client.ts", { ...given, addresses })
  while (!outcomes.has("tcp stop")) {
    const line = yield* calling.next
    if (line === "stop the server") {
      yield* serving.child.kill({ killSignal: "SIGTERM" })
      continue
    }
    const { check, problem, transport } = yield* Schema.decodeUnknownEffect(Checked)(line)
    outcomes.set(`${transport} ${check}`, problem)
  }
  // What NodeRuntime makes of an interruption.
  const ends = [
    ["client's exit code", 0, yield* calling.child.exitCode],
    ["server's exit code", 130, yield* serving.child.exitCode]
  ] as const
  for (const [what, expected, code] of ends) outcomes.set(`process ${what}`, code === expected ? "" : `it is ${code}`)
  const fs = yield* FileSystem.FileSystem
  outcomes.set("process socket file", (yield* fs.exists(given.socket)) ? "it is still there" : "")
  return outcomes
}, Effect.scoped)

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const args = yield* (yield* Stdio.Stdio).args
  const runtimes: Array<Runtime> = []
  const problems: Array<string> = []
  for (const runtime of known) {
    if (yield* fs.exists(runtime.command)) {
      runtimes.push(runtime)
      continue
    }
    yield* Console.log(`!!! ${runtime.name} IS NOT THERE, and is left out: npm ci --prefix .runtimes`)
    if (args.includes("--all")) problems.push(`${runtime.name} is not there`)
  }

  const authority = yield* makeAuthority()
  const other = yield* makeAuthority()
  const server = yield* authority.server()
  const revoked = yield* authority.client({ commonName: "revoked" })
  const identities = {
    ca: authority.ca,
    crl: yield* authority.revoke(revoked),
    crlOfServer: yield* authority.revoke(server),
    server,
    client: yield* authority.client({ commonName: "client" }),
    revoked,
    stranger: yield* other.client({ commonName: "client" }),
    otherCa: other.ca
  }
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "runtimes-" })

  yield* Console.log("client → server: what works, of the transports tcp, unix and mtls")
  let pairs = 0
  for (const from of runtimes) {
    for (const to of runtimes) {
      const socket = `${directory}/${pairs++}.sock`
      const outcomes = yield* Effect.timeout(runPair(from, to, { ...identities, socket }), 60_000)
      const failed = new Set<string>()
      for (const [check, problem] of outcomes) {
        const name = `${from.name} → ${to.name}: ${check}`
        if (problem !== "") failed.add(check)
        if (problem !== "" && !limits.has(name)) problems.push(`${name}: ${problem}`)
        if (problem === "" && limits.has(name)) problems.push(`${name} works, and is listed as a limit`)
      }
      const worked = outcomes.size - failed.size
      yield* Console.log(
        `${from.name.padEnd(4)} → ${to.name.padEnd(4)}: ${worked} of ${outcomes.size} checks` +
          (failed.size === 0 ? "" : `, not ${[...failed].join(", ")}`)
      )
    }
  }
  for (const problem of problems) yield* Console.log(`✗ ${problem}`)
  if (problems.length > 0) return yield* Effect.fail(new Error("something does not work that should: see above"))
  yield* Console.log(`${pairs} pairs work`)
})

program.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
