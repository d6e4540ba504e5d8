/** What the command refuses before it calls anything, and what it says. */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { temporaryDirectory } from "../support/networks.ts"
import { contract, failure } from "./support.ts"

const nobody = "tcp://127.0.0.1:1"
const module = ["--module", contract]
const withoutComponent = fileURLToPath(new URL("../support/raw.ts", import.meta.url))

const cases: ReadonlyArray<readonly [name: string, args: ReadonlyArray<string>, expected: RegExp]> = [
  ["no method", ["call", nobody], /^Missing required argument: method$/],
  ["a method without a component", ["call", nobody, "echo"], /^"echo" does not name a method: expected "component\.m/],
  ["a resolver that is none", ["call", "tcp://a", "a.b"], /^"a" has no port/],
  ["a scheme that is none", ["resolve", "http://a"], /^"http" in "http:\/\/a" is not the scheme of a resolver/],
  ["what is not hex", ["call", nobody, "a.b", "0g", "--hex"], /^the arguments are not hex: /],
  ["what is not Base64", ["call", nobody, "a.b", "a", "--base64"], /^the arguments are not Base64: /],
  ["hex and Base64", ["call", nobody, "a.b", "00", "--hex", "--base64"], /^--hex and --base64 exclude each other$/],
  ["hex with a module", ["call", nobody, "a.b", "--hex", ...module], /^--hex and --base64 are for bytes/],
  ["a file that is not there", ["call", nobody, "a.b", "@/no/such"], /^cannot read the arguments from \/no\/such: /],
  ["a timeout of nothing", ["call", nobody, "a.b", "--timeout", "0s"], /"0s"\. Expected: a duration above 0/],
  ["a timeout without a unit", ["call", nobody, "a.b", "--timeout", "5"], /"5"\. Expected: a duration above 0/],
  [
    "a shard key that is no u64",
    ["call", nobody, "a.b", "--shard-key", `${2n ** 64n}`],
    /Expected: a whole number from 0/
  ],
  ["half a certificate", ["call", nobody, "a.b", "--cert", contract], /^--cert and --key go together/],
  ["a CA without a certificate", ["call", nobody, "a.b", "--ca", contract], /^--ca and --servername are for mTLS/],
  ["a CA that is not there", ["call", nobody, "a.b", "--ca", "/no/such"], /Path does not exist: \/no\/such/],
  ["an export of no module", ["call", nobody, "a.b", "--export", "Stock"], /^--export is an export of --module/],
  [
    "what is not JSON",
    ["call", nobody, "test/Stock.Reserve", "{\"item\"", ...module],
    /^the arguments .* are not JSON: .*position 7/
  ],
  [
    "JSON that is not what the schema says, with all that is wrong",
    ["call", nobody, "test/Stock.Reserve", "{\"item\":1,\"until\":\"now\",\"cuont\":1}", ...module],
    /^the arguments of test\/Stock\.Reserve are not what .*no excess property at \["cuont"\]; .*at \["item"\]; .*at \["until"\]$/
  ],
  [
    "a method that the module does not have",
    ["call", nobody, "test/Stock.Get", ...module],
    /no method "test\/Stock\.Get": expected one of test\/Stock\.\w+, test\/Stock\.\w+$/
  ],
  ["a method of two components", ["call", nobody, "test/Stock.Close", ...module], /choose a component with --export$/],
  [
    "an export that is no component",
    ["call", nobody, "Close", ...module, "--export", "StockHandlers"],
    /exports no component as "StockHandlers": expected one of \w*Stock, \w*Stock$/
  ],
  [
    "a module without a component",
    ["call", nobody, "a.b", "--module", withoutComponent],
    /raw\.ts exports no component/
  ],
  ["arguments that are for no call", ["watch", nobody, "--args", "a"], /^--args, --hex and --base64 are for --call/],
  ["a watch that calls no method", ["watch", nobody, "--call", "echo"], /^"echo" does not name a method/]
]

describe("effect-call refuses", () => {
  for (const [name, args, expected] of cases) {
    it.effect(name, () =>
      Effect.gen(function*() {
        const { code, message } = yield* failure(...args)
        assert.equal(code, 2)
        assert.match(message, expected)
      }))
  }

  it.effect("a module that cannot be loaded", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      writeFileSync(`${directory}/broken.mjs`, "throw new Error(\"no such luck\")")
      const { message } = yield* failure("call", nobody, "a.b", "--module", `${directory}/broken.mjs`)
      assert.match(message, /^cannot load .*broken\.mjs: no such luck$/)
      writeFileSync(`${directory}/hostile.mjs`, "throw Object.create(null)")
      const hostile = yield* failure("call", nobody, "a.b", "--module", `${directory}/hostile.mjs`)
      assert.match(hostile.message, /^cannot load .*hostile\.mjs: \{\}$/)
    }))
})
