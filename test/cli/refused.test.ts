/** What the command refuses before it calls anything, and what it says. */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { temporaryDirectory } from "../support/networks.ts"
import { contract, failure } from "./support.ts"

const deadAddress = "tcp://127.0.0.1:1"
const module = ["--module", contract]
const withoutComponent = fileURLToPath(new URL("../support/raw.ts", import.meta.url))

const cases: ReadonlyArray<readonly [name: string, args: ReadonlyArray<string>, expected: RegExp]> = [
  ["no method", ["call", deadAddress], /^Missing required argument: method$/],
  [
    "a method without a component",
    ["call", deadAddress, "echo"],
    /^"echo" does not name a method: expected "component\.m/
  ],
  ["a resolver that is none", ["call", "tcp://a", "a.b"], /^"a" has no port/],
  ["a scheme that is none", ["resolve", "http://a"], /^"http" in "http:\/\/a" is not the scheme of a resolver/],
  ["what is not hex", ["call", deadAddress, "a.b", "0g", "--hex"], /^the arguments are not hex: /],
  ["what is not Base64", ["call", deadAddress, "a.b", "a", "--base64"], /^the arguments are not Base64: /],
  [
    "hex and Base64",
    ["call", deadAddress, "a.b", "00", "--hex", "--base64"],
    /^--hex and --base64 exclude each other$/
  ],
  ["hex with a module", ["call", deadAddress, "a.b", "--hex", ...module], /^--hex and --base64 are for bytes/],
  [
    "a file that is not there",
    ["call", deadAddress, "a.b", "@/no/such"],
    /^cannot read the arguments from \/no\/such: /
  ],
  ["a timeout of nothing", ["call", deadAddress, "a.b", "--timeout", "0s"], /"0s"\. Expected: a duration above 0/],
  ["a timeout without a unit", ["call", deadAddress, "a.b", "--timeout", "5"], /"5"\. Expected: a duration above 0/],
  [
    "a shard key that is no u64",
    ["call", deadAddress, "a.b", "--shard-key", `${2n ** 64n}`],
    /Expected: a whole number from 0/
  ],
  ["half a certificate", ["call", deadAddress, "a.b", "--cert", contract], /^--cert and --key go together/],
  ["a CA without a certificate", ["call", deadAddress, "a.b", "--ca", contract], /^--ca and --servername are for mTLS/],
  ["a CA that is not there", ["call", deadAddress, "a.b", "--ca", "/no/such"], /Path does not exist: \/no\/such/],
  [
    "an export of no module",
    ["call", deadAddress, "a.b", "--export", "Stock"],
    /^--export names an export of --module/
  ],
  [
    "what is not JSON",
    ["call", deadAddress, "test/Stock.Reserve", "{\"item\"", ...module],
    /^the arguments .* are not JSON: .*position 7/
  ],
  [
    "JSON that is not what the schema says, with all that is wrong",
    ["call", deadAddress, "test/Stock.Reserve", "{\"item\":1,\"until\":\"now\",\"cuont\":1}", ...module],
    /^the arguments of test\/Stock\.Reserve do not fit its schema: .*no excess property at \["cuont"\]; .*at \["item"\]; .*at \["until"\]$/
  ],
  [
    "a method that the module does not have",
    ["call", deadAddress, "test/Stock.Get", ...module],
    /no method "test\/Stock\.Get": expected one of (test\/Stock\.\w+(, )?)+$/
  ],
  [
    "a method with a stream of results",
    ["call", deadAddress, "test/Stock.Watch", ...module],
    /^test\/Stock\.Watch is a stream: expected a method that is a call$/
  ],
  [
    "a method that takes items",
    ["call", deadAddress, "test/Stock.Import", ...module],
    /^test\/Stock\.Import is a stream: expected/
  ],
  [
    "a method of two components",
    ["call", deadAddress, "test/Stock.Close", ...module],
    /choose a component with --export$/
  ],
  [
    "an export that is no component",
    ["call", deadAddress, "Close", ...module, "--export", "StockHandlers"],
    /exports no component as "StockHandlers": expected one of \w*Stock, \w*Stock$/
  ],
  [
    "a module without a component",
    ["call", deadAddress, "a.b", "--module", withoutComponent],
    /raw\.ts exports no component/
  ],
  [
    "arguments that are for no call",
    ["watch", deadAddress, "--args", "a"],
    /^--args, --hex and --base64 are for --call/
  ],
  ["a watch that calls no method", ["watch", deadAddress, "--call", "echo"], /^"echo" does not name a method/]
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

  const modules: Readonly<Record<string, readonly [text: string, expected: RegExp]>> = {
    "that throws": ["throw new Error('no such luck')", /^cannot load .*user\.mjs: no such luck$/],
    "that throws later": ["await null; throw new Error('no such luck')", /^cannot load .*user\.mjs: no such luck$/],
    "that throws a text": ["throw 'no such luck'", /^cannot load .*user\.mjs: no such luck$/],
    "that throws nothing": ["throw undefined", /^cannot load .*user\.mjs: /],
    "that throws what cannot be shown": ["throw Object.create(null)", /^cannot load .*user\.mjs: /],
    "that throws an error that throws": [
      "throw Object.defineProperty(new Error(), 'message', { get() { throw 1 } })",
      /^cannot load .*user\.mjs: /
    ],
    "that is no JavaScript": ["export const = 1", /^cannot load .*user\.mjs: /],
    "that exports nothing": ["export {}", /exports no component/],
    "that exports other things": [
      "export const a = null, b = 7, c = () => {}, d = Symbol('d'), e = Object.create(null), f = {}",
      /exports no component/
    ],
    "that exports a proxy that throws": [
      "export const a = new Proxy({}, { get() { throw 1 }, has() { throw 1 } })",
      /exports no component/
    ],
    "that exports what only looks like a component": [
      "export const a = { '~effect-call/Component': '~effect-call/Component', name: 'a', group: {} }",
      /exports no component/
    ]
  }
  for (const [name, [text, expected]] of Object.entries(modules)) {
    it.effect(`a module ${name}`, () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        writeFileSync(`${directory}/user.mjs`, text)
        const { code, message } = yield* failure("call", deadAddress, "a.b", "--module", `${directory}/user.mjs`)
        assert.equal(code, 2)
        assert.match(message, expected)
      }))
  }
})
