/** Uses up its file descriptors, dials, and then closes some. It is started with few of them. */
import { Cause, Effect, Fiber } from "effect"
import * as fs from "node:fs"
import * as net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
// The sources, not what was built of them at some time.
import { Endpoint } from "../../../../src/index.ts"
import { CurrentObstacles, Obstacles } from "../../../../src/internal/net/obstacles.ts"

const turn = Effect.promise(() => new Promise(setImmediate))

const path = join(fs.mkdtempSync(join(tmpdir(), "ec-")), "server.sock")
const listening = (server: net.Server, where: net.ListenOptions) =>
  new Promise<net.Server>((resolve) => server.listen(where, () => resolve(server)))
const tcp = await listening(net.createServer(), { port: 0, host: "127.0.0.1" })
await listening(net.createServer(), { path })
const { port } = tcp.address() as net.AddressInfo

const held: Array<number> = []
try {
  while (true) held.push(fs.openSync("/dev/null", "r"))
} catch (error) {
  console.log("exhausted:", (error as NodeJS.ErrnoException).code)
}

const program = Effect.gen(function*() {
  const dials = Object.entries({
    tcp: Endpoint.tcp(`127.0.0.1:${port}`),
    name: Endpoint.tcp(`localhost:${port}`),
    unix: Endpoint.unix(path)
  }).map(([name, { dial }]) => ({ name, dial, obstacles: new Obstacles() }))
  const fibers = yield* Effect.forEach(
    dials,
    ({ dial, obstacles }) =>
      Effect.forkChild(Effect.provideService(dial, CurrentObstacles, obstacles), { startImmediately: true })
  )
  for (const [i, { obstacles }] of dials.entries()) {
    while (!obstacles.text.includes("EMFILE") && fibers[i]?.pollUnsafe() === undefined) yield* turn
  }
  // One more turn: what ends a dial does so in the turn of its error.
  yield* turn
  const open = dials.filter((_, i) => fibers[i]?.pollUnsafe() === undefined).map(({ name }) => name)
  console.log("still dialing:", open.join(", "))
  for (const descriptor of held.slice(0, 20)) fs.closeSync(descriptor)
  for (const [i, { name }] of dials.entries()) {
    const exit = yield* Effect.exit(Fiber.join(fibers[i]!))
    console.log(exit._tag === "Success" ? "connected:" : `failed (${Cause.pretty(exit.cause)}):`, name)
  }
})
await Effect.runPromise(Effect.scoped(program))
fs.rmSync(join(path, ".."), { recursive: true })
process.exit()
