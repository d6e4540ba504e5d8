/**
 * The certificates of systems that speak TLS: the server's process makes those of both sides.
 */
import { Effect } from "effect"
import { makeAuthority } from "../../../examples/support/certificates.ts"

export const makeCertificates = () =>
  Effect.runPromise(Effect.gen(function*() {
    const authority = yield* makeAuthority()
    return {
      ca: authority.ca,
      server: yield* authority.server(),
      client: yield* authority.client({ commonName: "benchmark" })
    }
  }))
