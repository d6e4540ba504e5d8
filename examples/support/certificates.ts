/**
 * Certificates made on the spot, for the examples and the tests: an authority that signs server and client
 * certificates, and lists of those that it has revoked.
 *
 * They are valid for a day, unless asked otherwise, and are written nowhere. P-256 keys, so that a set takes some tens
 * of milliseconds.
 */
// oxlint-disable-next-line import/no-unassigned-import -- a polyfill that @peculiar/x509 needs to be loaded before it
import "reflect-metadata"
import * as x509 from "@peculiar/x509"
import { Effect } from "effect"
import { Buffer } from "node:buffer"
import { webcrypto } from "node:crypto"

/** A name that a certificate vouches for. A `url` is how SPIFFE and others name a workload. */
export interface AlternativeName {
  readonly type: "dns" | "ip" | "url"
  readonly value: string
}

/** A certificate with its private key in PEM, named as `node:tls` names them. */
export interface Identity {
  readonly cert: string
  readonly key: string
}

/** What an authority is asked to sign. */
export interface IdentityOptions {
  /** A subject may have several. */
  readonly commonName: string | ReadonlyArray<string>
  readonly names?: ReadonlyArray<AlternativeName>
  readonly notBefore?: Date
  readonly notAfter?: Date
}

/** Signs certificates. `ca` is its own certificate in PEM: what the other side has to trust. */
export interface Authority {
  readonly ca: string
  /** A server's certificate. Without names it is one for `localhost`, `127.0.0.1` and `::1`. */
  readonly server: (options?: IdentityOptions) => Effect.Effect<Identity>
  /** A client's certificate. */
  readonly client: (options: IdentityOptions) => Effect.Effect<Identity>
  /** The list, in PEM, of those that it has revoked. */
  readonly revoke: (...identities: ReadonlyArray<Identity>) => Effect.Effect<string>
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" }
const hour = 60 * 60 * 1000
const localhost: IdentityOptions = {
  commonName: "localhost",
  names: [{ type: "dns", value: "localhost" }, { type: "ip", value: "127.0.0.1" }, { type: "ip", value: "::1" }]
}

const generateKeys = Effect.promise(() => webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]))

const toPem = (key: webcrypto.CryptoKey) =>
  Effect.promise(() => webcrypto.subtle.exportKey("pkcs8", key)).pipe(
    Effect.map((der) => x509.PemConverter.encode(der, "PRIVATE KEY"))
  )

const serialNumber = () => Buffer.from(webcrypto.getRandomValues(new Uint8Array(16))).toString("hex")

/** A new authority with a key of its own: what it signs, no other authority vouches for. */
export const makeAuthority = Effect.fnUntraced(function*(commonName: string = "Example CA") {
  const keys = yield* generateKeys
  // The certificates are checked against the machine's clock, so they are dated by it; an hour early, for peers whose
  // clock is behind.
  const validity = { notBefore: new Date(Date.now() - hour), notAfter: new Date(Date.now() + 24 * hour) }
  const root = yield* Effect.promise(async () =>
    x509.X509CertificateGenerator.createSelfSigned({
      ...validity,
      serialNumber: serialNumber(),
      name: [{ CN: [commonName] }],
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey)
      ]
    })
  )

  const sign = Effect.fnUntraced(function*(options: IdentityOptions, usage: x509.ExtendedKeyUsage) {
    const own = yield* generateKeys
    const certificate = yield* Effect.promise(async () =>
      x509.X509CertificateGenerator.create({
        notBefore: options.notBefore ?? validity.notBefore,
        notAfter: options.notAfter ?? validity.notAfter,
        serialNumber: serialNumber(),
        subject: [options.commonName].flat().map((name) => ({ CN: [name] })),
        issuer: root.subjectName,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: algorithm,
        extensions: [
          new x509.BasicConstraintsExtension(false),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([usage]),
          await x509.AuthorityKeyIdentifierExtension.create(keys.publicKey),
          ...(options.names === undefined ? [] : [new x509.SubjectAlternativeNameExtension([...options.names])])
        ]
      })
    )
    return { cert: certificate.toString("pem"), key: yield* toPem(own.privateKey) }
  })

  const authority: Authority = {
    ca: root.toString("pem"),
    server: (options = localhost) => sign(options, x509.ExtendedKeyUsage.serverAuth),
    client: (options) => sign(options, x509.ExtendedKeyUsage.clientAuth),
    revoke: (...identities) =>
      Effect.promise(async () => {
        const list = await x509.X509CrlGenerator.create({
          issuer: root.subject,
          thisUpdate: validity.notBefore,
          nextUpdate: validity.notAfter,
          signingAlgorithm: algorithm,
          signingKey: keys.privateKey,
          entries: identities.map(({ cert }) => ({ serialNumber: new x509.X509Certificate(cert).serialNumber }))
        })
        // Its own PEM has a name that OpenSSL does not know.
        return x509.PemConverter.encode(list.rawData, "X509 CRL")
      })
  }
  return authority
})
