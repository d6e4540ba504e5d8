/** The package as users get it: packed by npm, and unpacked again. */
import { Effect, FileSystem, Path } from "effect"
import { run } from "./blocks.ts"
import { root } from "./page.ts"

/** Packs the package and unpacks it into a folder, which goes with the Scope. */
export const unpacked = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-call-package-" })
  const packing = yield* run("npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", directory, root)
  if (packing.code !== 0) return yield* Effect.die(new Error(`npm pack failed: ${packing.stderr}`))
  const unpacking = yield* run("tar", "-xzf", path.join(directory, packing.stdout.trim()), "-C", directory)
  if (unpacking.code !== 0) return yield* Effect.die(new Error(`tar failed: ${unpacking.stderr}`))
  return path.join(directory, "package")
})
