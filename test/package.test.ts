/** What users can rely on: the entry points of the package, and the names that they export. */
import { describe, it } from "@effect/vitest"
import * as Package from "effect-call"
import * as Testing from "effect-call/testing"
import * as assert from "node:assert/strict"
import { readFileSync } from "node:fs"

const namesOf = (modules: Readonly<Record<string, object>>) =>
  Object.fromEntries(Object.entries(modules).map(([name, module]) => [name, Object.keys(module).toSorted()]))

describe("the package exports", () => {
  it("effect-call, effect-call/testing and its package.json", () => {
    const { exports } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"))
    assert.deepEqual(Object.keys(exports), [".", "./testing", "./package.json"])
  })

  it("these names from effect-call", () => {
    assert.deepEqual(namesOf(Package), {
      Balancer: [
        "Factory",
        "consistentHash",
        "layer",
        "leastPending",
        "make",
        "peakEwma",
        "roundRobin",
        "sharded",
        "subset",
        "weighted",
        "zoneAware"
      ],
      CallError: ["CallError", "CommunicationError", "DeadlineExceeded", "RemoteError", "Unreachable", "isCallError"],
      Component: [
        "Idempotent",
        "ShardKey",
        "accepts",
        "client",
        "handlers",
        "idempotent",
        "isComponent",
        "items",
        "make",
        "shardBy"
      ],
      Connection: ["Connection", "layer", "make", "withOptions"],
      Deadline: ["none", "remaining", "within"],
      Endpoint: ["DialError", "InvalidEndpoint", "mtls", "net", "parse", "tcp", "unix", "withAttributes"],
      HandlerMap: ["empty", "merge", "set", "setStream"],
      Health: ["Health", "handlers", "layer", "make", "readiness", "set", "status"],
      Listener: ["ListenerError", "mtls", "tcp", "unix"],
      MethodKey: ["idempotent", "isMethodKey", "make"],
      Resolver: [
        "DnsTimeToLive",
        "InvalidResolver",
        "Resolver",
        "ResolverError",
        "Schemes",
        "config",
        "constant",
        "directory",
        "dns",
        "dnsSrv",
        "file",
        "filter",
        "fromStream",
        "fromSubscriptionRef",
        "kubernetes",
        "layer",
        "layerDns",
        "layerSchemes",
        "map",
        "merge",
        "missing",
        "parse",
        "version"
      ],
      Server: ["Server", "layer", "leaving", "serve", "serveOn", "untilLeaving"]
    })
  })

  it("these names from effect-call/testing", () => {
    assert.deepEqual(namesOf(Testing), {
      CallTest: ["layer"],
      TestNetwork: ["InvalidFaults", "TestNetwork", "endpoint", "fault", "heal", "layer", "listen", "listener", "make"]
    })
  })
})
