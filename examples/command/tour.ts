/**
 * A tour of the command `effect-call`. It starts three servers: two on Unix sockets, and one over mTLS. Then it runs
 * the command as a user does, and prints what the command prints.
 *
 * Run it with `npx node examples/command/tour.ts` (in a clone, build first: `npm run build`).
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Fiber, FileSystem, Stream } from "effect"
import { Component, HandlerMap, Listener, Server } from "effect-call"
import { ChildProcess } from "effect/process"
import { fileURLToPath } from "node:url"
import { makeDirectory } from "../support/certificates.ts"
import { Cart, CartHandlers } from "./cart/contract.ts"

const program = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url))

/** The words of a command line. Single quotes keep a word together. */
const wordsOf = (line: string) => Array.from(line.matchAll(/'([^']*)'|\S+/g), ([word, quoted]) => quoted ?? word)

const commandOf = (directory: string, line: string) =>
  ChildProcess.make(process.execPath, [program, ...wordsOf(line)], {
    cwd: directory,
    // Processes that start after the first read its compiled code.
    env: { NODE_COMPILE_CACHE: `${directory}/cache` },
    extendEnv: true,
    stdin: "ignore"
  })

/** Runs the command to its end, and gives its line, and what it printed on stdout and stderr. */
const run = (directory: string) =>
  Effect.fnUntraced(function*(line: string) {
    const child = yield* commandOf(directory, line)
    const output = yield* Stream.mkString(Stream.decodeText(child.all))
    const code = yield* child.exitCode
    return `$ npx effect-call ${line}\n${output.trimEnd()}${code === 0 ? "" : `\n# exit code ${code}`}\n`
  }, Effect.scoped)

/** Runs a command that does not end by itself, and sends it a Ctrl-C after some line. Gives its last lines. */
const runUntil = Effect.fnUntraced(function*(
  directory: string,
  line: string,
  options: { readonly isLast: (line: string) => boolean; readonly shown: number }
) {
  const child = yield* commandOf(directory, line)
  const lines = yield* child.stdout.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.takeUntil(options.isLast),
    Stream.runCollect
  )
  // It reports an error, since the process ends by a signal or with a code other than 0.
  yield* Effect.ignore(child.kill({ killSignal: "SIGINT" }))
  return [`$ npx effect-call ${line}`, ...lines.slice(-options.shown), ""].join("\n")
}, Effect.scoped)

const main = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  // The servers, in a directory of their own: shop/1.sock, shop/2.sock, and a port over mTLS.
  const directory = yield* makeDirectory
  yield* fs.makeDirectory(`${directory}/shop`)
  yield* fs.symlink(fileURLToPath(new URL("cart/contract.ts", import.meta.url)), `${directory}/cart.ts`)
  const handlers = HandlerMap.merge(
    yield* Component.handlers(Cart, CartHandlers),
    HandlerMap.set(HandlerMap.empty, "example/Echo", "echo", (args) => Effect.succeed(args))
  )
  const [ca, cert, key] = yield* Effect.forEach(
    ["ca.pem", "server.pem", "server-key.pem"],
    (name) => fs.readFileString(`${directory}/${name}`)
  )
  const tcp = yield* Listener.tcp("127.0.0.1:0", handlers)
  const port = tcp.address.split(":").at(-1)
  const listeners = [
    yield* Listener.unix(`${directory}/shop/1.sock`, handlers),
    yield* Listener.unix(`${directory}/shop/2.sock`, handlers),
    yield* Listener.mtls({ ca, cert, key }, tcp)
  ]
  for (const listener of listeners) yield* Effect.forkScoped(Server.serve(listener))

  const watching = yield* Effect.forkScoped(
    runUntil(directory, "watch unixdir://shop --call example/Echo.echo --args hello --every 20ms", {
      isLast: (line) => /^\d{2,} calls answered/.test(line),
      shown: 5
    })
  )
  const outputs = yield* Effect.forEach(
    [
      "call unix://shop/1.sock example/Echo.echo hello",
      "call unix://shop/1.sock example/Echo.echo '00 ff' --hex",
      `call unix://shop/1.sock example/Cart.Get '{"id":"a"}' --module cart.ts`,
      `call unix://shop/1.sock example/Cart.Get '{"id":"b"}' --module cart.ts`,
      `call unix://shop/1.sock example/Cart.Get '{"name":"a"}' --module cart.ts`,
      "call unix://shop/3.sock example/Echo.echo hello",
      `call tcp://localhost:${port} example/Echo.echo hello --ca ca.pem --cert client.pem --key client-key.pem`,
      "resolve unixdir://shop",
      "resolve unixdir://shop --json"
    ],
    run(directory),
    { concurrency: 3 }
  )
  for (const output of [...outputs, yield* Fiber.join(watching)]) yield* Console.log(output)
})

main.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
