import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"

const program = fileURLToPath(new URL("../../support/loadedForKubernetes.ts", import.meta.url))

describe("the modules of Kubernetes", () => {
  // It compiles all of the sources, which takes a while on a busy machine.
  it("are loaded by the first use of the resolver, and not by an import of the package", { timeout: 60_000 }, () => {
    const { stderr, stdout } = spawnSync(process.execPath, [program], { encoding: "utf8", env: {} })
    assert.notEqual(stdout, "", stderr)
    const { answer, imported, used } = JSON.parse(stdout)
    assert.deepEqual(imported, ["load.ts"])
    assert.match(answer, /^no Kubernetes cluster is known/)
    assert.ok(used.includes("resolver.ts") && used.includes("kubeconfig.ts"), used)
  })
})
