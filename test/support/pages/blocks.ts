/** The code blocks of pages that are whole modules, as files that can be compiled and run. */
import { Effect, FileSystem, Path, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { commentPages, type Fence, markdownPages, type Page, root } from "./page.ts"

/** A module in a code block. */
export interface Block {
  readonly page: string
  readonly line: number
  readonly code: string
}

const blocksOf = ({ fences, name }: Page): ReadonlyArray<Block> =>
  fences.filter(({ language, program }: Fence) => language === "ts" && program === "").map(({ code, line }) => ({
    page: name,
    line,
    code: code.join("\n") + "\n"
  }))

/** The modules on the pages of the manual. */
export const pageBlocks: ReadonlyArray<Block> = markdownPages(root).flatMap(blocksOf)

/** The examples in the doc comments of the public modules. */
export const commentBlocks: ReadonlyArray<Block> = commentPages(root).flatMap(blocksOf)

/** The file of a block, named so that a compiler's message says where the block is. */
export const fileOf = ({ line, page }: Block): string => `${page.replaceAll(/[/.]/g, "-")}-line-${line}.ts`

/** What a block says that it prints: the comments after its calls of `console.log`. */
export const promisedOutput = ({ code }: Block): ReadonlyArray<string> =>
  [...code.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm)].map((match) => match[1] ?? "")

/** Writes blocks into a folder of their own, with the project's compiler settings. It goes with the Scope. */
export const writeBlocks = Effect.fnUntraced(function*(blocks: ReadonlyArray<Block>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  // In the project, so that the package finds itself by its name; a dot before it, so that no other tool looks inside.
  const directory = yield* fs.makeTempDirectoryScoped({ directory: path.join(root, "test"), prefix: ".pages-" })
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

/** The names in the first column of the table of the Go package, on whichever page it is. */
export const goTable = (): ReadonlySet<string> => {
  const names = new Set<string>()
  for (const { prose } of markdownPages(root)) {
    const first = prose.findIndex(({ text }) => text.startsWith("| Go package"))
    if (first < 0) continue
    for (const { text } of prose.slice(first + 2)) {
      if (!text.startsWith("|")) break
      for (const [, name] of (text.split("|")[1] ?? "").matchAll(/`([^`]+)`/g)) names.add(name ?? "")
    }
  }
  return names
}
