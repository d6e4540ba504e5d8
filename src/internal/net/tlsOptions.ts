/**
 * The checks of TLS options that both sides share, and the versions of TLS. It performs no handshakes.
 */
import * as Result from "effect/Result"
import type { SecureContextOptions, SecureVersion } from "node:tls"
import { isInstance, textOf } from "../userError.ts"

/** The versions that are secure. Others are always refused. */
const secureVersions: ReadonlySet<unknown> = new Set(["TLSv1.2", "TLSv1.3"])

const expected = "expected \"TLSv1.2\" or \"TLSv1.3\""

const versionsOf = (
  options: SecureContextOptions
): Result.Result<{ readonly minVersion?: SecureVersion }, string> => {
  const { maxVersion, secureProtocol } = options
  // An older option for the versions. Node takes no other version options together with it, and its other values allow
  // older versions.
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
  // Node accepts this combination, and then refuses every handshake.
  return minVersion === "TLSv1.3" && maxVersion === "TLSv1.2"
    ? Result.fail("minVersion is \"TLSv1.3\": expected no more than maxVersion, which is \"TLSv1.2\"")
    : Result.succeed({ minVersion })
}

const materials = ["ca", "cert", "crl", "key", "pfx"] as const

const isEmpty = (material: unknown): boolean =>
  material === "" || (ArrayBuffer.isView(material) && material.byteLength === 0)

/** Deno takes revocation lists, and lets revoked certificates in all the same. */
const ignoresRevocation = process.versions["deno"] !== undefined

/**
 * The user's options with the lowest version that is accepted: TLS 1.3, unless the options say otherwise.
 *
 * A file may be empty while it is being written. Node takes an empty text as a missing option: without `ca`, all public
 * authorities are trusted, and without `crl`, no certificate is revoked.
 */
export const checkedOptions = <Options extends SecureContextOptions>(
  options: Options
): Result.Result<Options, string> => {
  const empty = materials.find((name) => [options[name]].flat().some(isEmpty))
  if (empty !== undefined) return Result.fail(`${empty} is empty`)
  if (ignoresRevocation && options.crl !== undefined) {
    return Result.fail("there is a crl, and Deno does not check revocation lists: use Node or Bun, or give no crl")
  }
  return Result.map(versionsOf(options), (versions) => ({ ...options, ...versions }))
}

/** The problem with the version of a connection, if there is one: a custom secure context has its own versions. */
export const checkedProtocol = (protocol: string | null): string | undefined =>
  secureVersions.has(protocol) ? undefined : `the connection speaks ${String(protocol)}: ${expected}`

/** The error that Node throws, without the bad value, which may be a passphrase or the beginning of a key. */
export const withoutValue = (error: unknown): unknown => {
  if (!isInstance(error, TypeError)) return error
  const text = textOf(error)
  const end = text.indexOf(" Received ")
  return end === -1 ? error : new TypeError(text.slice(0, end))
}
