/** Which files there are: those of the repository, of the package that would be packed, or of one that was unpacked. */
import { execFileSync } from "node:child_process"
import { statSync } from "node:fs"
import { root } from "./page.ts"

/** Says what is at a path below the root. */
export type Tree = (path: string) => "file" | "folder" | undefined

/** The files of a folder. */
export const treeOf = (folder: string): Tree => (path) => {
  const stats = statSync(`${folder}/${path}`, { throwIfNoEntry: false })
  return stats?.isDirectory() ? "folder" : stats?.isFile() ? "file" : undefined
}

/** The files with these paths. */
export const treeOfFiles = (paths: ReadonlyArray<string>): Tree => {
  const files = new Set(paths)
  const folders = new Set([
    "",
    ...paths.flatMap((path) =>
      path.split("/").slice(0, -1).map((_, depth, parts) => parts.slice(0, depth + 1).join("/"))
    )
  ])
  return (path) => files.has(path) ? "file" : folders.has(path) ? "folder" : undefined
}

/** The paths of the files that `npm pack` would put into the package. */
export const packedFiles = (): ReadonlyArray<string> => {
  const output = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: root,
    encoding: "utf8",
    shell: process.platform === "win32",
    stdio: ["ignore", "pipe", "ignore"]
  })
  const packages: ReadonlyArray<{ readonly files: ReadonlyArray<{ readonly path: string }> }> = JSON.parse(output)
  return packages.flatMap(({ files }) => files.map(({ path }) => path))
}
