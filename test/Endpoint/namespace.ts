/** Runs programs in a network of their own, with their own names and ports. Linux, and root. */
import { Data, Effect, type Scope } from "effect"
import { execFile, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

/** Whether this process may make namespaces. */
export const hasNamespaces: boolean = process.platform === "linux" && spawnSync("unshare", ["-mn", "true"]).status === 0

class ProgramFailed extends Data.TaggedError("ProgramFailed")<{ readonly message: string }> {}

const program = fileURLToPath(new URL("programs/inNamespace.ts", import.meta.url))

/** Runs the programs one after the other, and gives what each has found out. */
export const inNamespace = Effect.fnUntraced(function*(
  hosts: ReadonlyArray<string>,
  setUp: ReadonlyArray<string>
): Effect.fn.Return<Readonly<Record<string, unknown>>, ProgramFailed, Scope.Scope> {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "ec-"))),
    (directory) => Effect.sync(() => rmSync(directory, { recursive: true }))
  )
  writeFileSync(join(directory, "hosts"), hosts.map((line) => `${line}\n`).join(""))
  writeFileSync(join(directory, "resolv.conf"), "nameserver 127.0.0.1\n")
  const commands = [
    "set -e",
    "ip link set lo up",
    ...["hosts", "resolv.conf"].map((file) => `mount --bind ${directory}/${file} /etc/${file}`),
    ...setUp,
    `exec ${process.execPath} ${program}`
  ]
  const text = yield* Effect.callback<string, ProgramFailed>((resume) => {
    const child = execFile("unshare", ["-mn", "sh", "-c", commands.join("\n")], (error, stdout, stderr) => {
      resume(
        error === null
          ? Effect.succeed(stdout)
          : Effect.fail(new ProgramFailed({ message: `${error.message}\n${stderr}` }))
      )
    })
    return Effect.sync(() => void child.kill("SIGKILL"))
  })
  return JSON.parse(text)
})
