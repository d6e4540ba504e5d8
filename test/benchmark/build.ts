/**
 * Makes a process of the benchmark use another build of effect-call: `--import build.ts?dist=file:///…/dist/`. Effect
 * remains the benchmark's own, so that nothing else differs, wherever that build is.
 */
import { registerHooks } from "node:module"

const dist = new URL(import.meta.url).searchParams.get("dist")
if (dist === null) throw new Error("expected ?dist=")

registerHooks({
  resolve: (specifier, context, nextResolve) => {
    if (specifier === "effect-call") return nextResolve(new URL("index.js", dist).href, context)
    const isEffect = /^(@effect|effect)(\/|$)/.test(specifier)
    return nextResolve(specifier, isEffect ? { ...context, parentURL: import.meta.url } : context)
  }
})
