/** What stands for the contract of a method in requests in binary. */
import type { Component } from "effect-call"
import type { Rpc } from "effect/rpc"
import * as assert from "node:assert/strict"
import { MethodCodecs } from "../../src/internal/component/methodCodecs.ts"
import { fingerprintSize, writeFingerprint } from "../../src/internal/protocol/fingerprint.ts"

/** The bytes that follow the format. */
export const fingerprintBytes = <Rpcs extends Rpc.Any>(
  { group }: Component.Component<Rpcs>,
  method: string
): Uint8Array => {
  // `Rpc.Any` hides what each Rpc has.
  const fingerprint = MethodCodecs.of(group.requests.get(method) as unknown as Rpc.AnyWithProps).fingerprint()
  assert.ok(fingerprint !== undefined, `${method} has no binary form`)
  const bytes = new Uint8Array(fingerprintSize)
  writeFingerprint(new DataView(bytes.buffer), 0, fingerprint)
  return bytes
}
