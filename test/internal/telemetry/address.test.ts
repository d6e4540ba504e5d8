import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { serverAddress } from "../../../src/internal/telemetry/address.ts"

describe("serverAddress", () => {
  it.each([
    ["tcp://127.0.0.1:80", "127.0.0.1", 80],
    ["tcp://[::1]:80", "::1", 80],
    ["tcp6://[fe80::1%lo0]:53", "fe80::1%lo0", 53],
    ["tcp://golang.org:http", "golang.org", 80],
    ["tcp://:80", "localhost", 80],
    ["mtls://tcp://host:443", "host", 443],
    ["unix:///run/a.sock", "/run/a.sock", undefined],
    ["unix://@orders", "@orders", undefined],
    ["mtls://unix:///run/a.sock", "/run/a.sock", undefined],
    ["memory://a", "memory://a", undefined],
    ["mtls://memory://a", "mtls://memory://a", undefined],
    ["tcp://no-port", "tcp://no-port", undefined],
    ["worker 1", "worker 1", undefined]
  ])("reads %s", (text, address, port) => {
    assert.deepEqual(serverAddress(text), { address, port })
  })
})
