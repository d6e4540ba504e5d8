/**
 * What the options of both sides of a TLS connection have in common: how they are checked, and which versions of TLS are spoken.
 */
import * as Result from "effect/Result"
import type { SecureContextOptions, SecureVersion } from "node:tls"
import { isInstance, textOf } from "../userError.ts"

/** The versions that are secure. The others are refused, whoever asks for them. */
const secureVersions: ReadonlySet<unknown> = new Set(["TLSv1.2", "TLSv1.3"])

const expected = "expected \"TLSv1.2\" or \"TLSv1.3\""

const versionsOf = (
  options: SecureContextOptions
): Result.Result<{ readonly minVersion?: SecureVersion }, string> => {
  const { maxVersion, secureProtocol } = options
  // An older way to say the same. Node takes no other versions beside it, and its other values allow what is older than TLS 1.2.
  if (secureProtocol !== undefined) {
    return /^TLSv1_2_(client_|server_)?method$/.test(secureProtocol)
      ? Result.succeed({})
      : Result.fail(
        `secureProtocol is ${JSON.stringify(secureProtocol)}: expected "TLSv1_2_method", or minVersion in its place`
      )
  }
  const minVersion = options.minVersion ?? (maxVersion === "TLSv1.2" ? "TLSv1.2" : "TLSv1.3")
  for (const [name, version] of Object.entries({ minVersion, maxVersion: maxVersion ?? minVersion })) {
    if (!secureVersions.has(version)) return Result.fail(`${name} is ${JSON.stringify(version)}: ${expected}`)
  }
  // Node takes that, and refuses every handshake.
  return minVersion === "TLSv1.3" && maxVersion === "TLSv1.2"
    ? Result.fail("minVersion is \"TLSv1.3\": expected no more than maxVersion, which is \"TLSv1.2\"")
    : Result.succeed({ minVersion })
}

const materials = ["ca", "cert", "crl", "key", "pfx"] as const

const isEmpty = (material: unknown): boolean =>
  material === "" || (ArrayBuffer.isView(material) && material.byteLength === 0)

/**
 * The user's options with the least version that is spoken: TLS 1.3, unless they say otherwise.
 *
 * A file that is empty, because somebody is writing it, gives an empty text. Node takes that for an option that is not there: without `ca`
 * all public authorities are trusted, and without `crl` nothing is revoked.
 */
export const checkedOptions = <Options extends SecureContextOptions>(
  options: Options
): Result.Result<Options, string> => {
  const empty = materials.find((name) => [options[name]].flat().some(isEmpty))
  return empty === undefined
    ? Result.map(versionsOf(options), (versions) => ({ ...options, ...versions }))
    : Result.fail(`${empty} is empty`)
}

/** Whether a connection speaks a version that is secure; if not, what is wrong. A context of the user's own has versions of its own. */
export const checkedProtocol = (protocol: string | null): string | undefined =>
  secureVersions.has(protocol) ? undefined : `the connection speaks ${String(protocol)}: ${expected}`

/** What Node throws, without the value that it did not like: that may be a passphrase, or the beginning of a key. */
export const withoutValue = (error: unknown): unknown => {
  if (!isInstance(error, TypeError)) return error
  const text = textOf(error)
  const end = text.indexOf(" Received ")
  return end === -1 ? error : new TypeError(text.slice(0, end))
}
