/**
 * The code blocks of the documentation, as files that can be compiled and run.
 */
import { Effect, FileSystem, Path, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

export const root = fileURLToPath(new URL("../../", import.meta.url))

/** A block of TypeScript in a text, at the line where it begins. */
export interface Block {
  readonly file: string
  readonly line: number
  readonly code: string
}

/**
 * Finds the blocks that begin with "```ts"; `margin` is what stands before each line, such as the star of a comment.
 */
const blocksIn = (file: string, margin: RegExp): ReadonlyArray<Block> => {
  const lines = readFileSync(root + file, "utf8").split("\n").map((line) => line.replace(margin, ""))
  const blocks: Array<Block> = []
  for (let start = 0; start < lines.length; start++) {
    if (lines[start] !== "```ts") continue
    const end = lines.indexOf("```", start)
    if (end < 0) throw new Error(`${file}:${start + 1}: a code block without an end`)
    blocks.push({ file, line: start + 1, code: lines.slice(start + 1, end).join("\n") + "\n" })
    start = end
  }
  return blocks
}

export const readmeBlocks = blocksIn("README.md", /^$/)

/** The examples in the doc comments of the public modules. */
export const docBlocks = ["src/", "src/testing/"].flatMap((folder) =>
  readdirSync(root + folder)
    .filter((name) => name.endsWith(".ts"))
    .flatMap((name) => blocksIn(folder + name, /^ *\* ?/))
)

/** The file of a block, named so that a compiler's message says where the block is. */
export const fileOf = ({ file, line }: Block): string => `${file.replaceAll(/[/.]/g, "-")}-line-${line}.ts`

/** What a block says that it prints: the comments after its calls of `console.log`. */
export const promisedOutput = ({ code }: Block): ReadonlyArray<string> =>
  [...code.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm)].map((match) => match[1] ?? "")

/** Writes blocks into a folder of their own, with the project's compiler settings. It goes with the Scope. */
export const writeBlocks = Effect.fnUntraced(function*(blocks: ReadonlyArray<Block>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  // In the project, so that the package finds itself by its name; a dot before it, so that no other tool looks inside.
  const directory = yield* fs.makeTempDirectoryScoped({ directory: path.join(root, "test"), prefix: ".readme-" })
  for (const block of blocks) yield* fs.writeFileString(path.join(directory, fileOf(block)), block.code)
  yield* fs.writeFileString(
    path.join(directory, "tsconfig.json"),
    JSON.stringify({
      extends: "../../tsconfig.json",
      // An example may define what it does not use.
      compilerOptions: { noUnusedLocals: false, noUnusedParameters: false },
      include: ["*.ts"]
    })
  )
  return directory
})

/** Runs a program to its end, and gives its exit code and what it printed. */
export const run = Effect.fnUntraced(function*(command: string, ...args: ReadonlyArray<string>) {
  const process = yield* ChildProcess.make(command, args, { cwd: root, stdin: "ignore" })
  const text = (output: typeof process.stdout) => Stream.mkString(Stream.decodeText(output))
  return yield* Effect.all(
    { code: process.exitCode, stdout: text(process.stdout), stderr: text(process.stderr) },
    { concurrency: "unbounded" }
  )
}, Effect.scoped)

/** The names in the first column of the table of the Go package. */
export const goTable = (): ReadonlySet<string> => {
  const rows = readFileSync(root + "README.md", "utf8").split("\n")
  const first = rows.findIndex((row) => row.startsWith("| Go package"))
  const names = new Set<string>()
  for (const row of rows.slice(first + 2)) {
    if (!row.startsWith("|")) break
    for (const [, name] of (row.split("|")[1] ?? "").matchAll(/`([^`]+)`/g)) names.add(name ?? "")
  }
  return names
}
