/**
 * Creates certificates for the examples and the tests. An authority signs server and client certificates, and issues
 * revocation lists.
 *
 * By default, a certificate is valid for one day. The keys are P-256 keys, so creating a set takes only some tens of
 * milliseconds. It uses the package `@peculiar/x509` (with `reflect-metadata`), which effect-call itself does not need.
 */
// oxlint-disable-next-line import/no-unassigned-import -- a polyfill that @peculiar/x509 needs to be loaded before it
import "reflect-metadata"
import * as x509 from "@peculiar/x509"
import { Effect, FileSystem, Path } from "effect"
import { Buffer } from "node:buffer"
import { webcrypto } from "node:crypto"

/** A subject alternative name of a certificate. SPIFFE and similar systems identify a workload by a `url`. */
export interface AlternativeName {
  readonly type: "dns" | "ip" | "url"
  readonly value: string
}

/** A certificate and its private key in PEM. The fields have the names that `node:tls` uses. */
export interface Identity {
  readonly cert: string
  readonly key: string
}

/** The contents of a certificate that an authority signs. */
export interface IdentityOptions {
  /** The common name. A subject can have several. */
  readonly commonName: string | ReadonlyArray<string>
  readonly names?: ReadonlyArray<AlternativeName>
  readonly notBefore?: Date
  readonly notAfter?: Date
}

/** Signs certificates. `ca` is its own certificate in PEM, which the other side must trust. */
export interface Authority {
  readonly ca: string
  /** Creates a server's certificate. Default names: `localhost`, `127.0.0.1` and `::1`. */
  readonly server: (options?: IdentityOptions) => Effect.Effect<Identity>
  /** Creates a client's certificate. */
  readonly client: (options: IdentityOptions) => Effect.Effect<Identity>
  /** Revokes certificates, and returns the revocation list in PEM. */
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

/** Creates an authority with its own key. Other authorities do not trust the certificates that it signs. */
export const makeAuthority = Effect.fnUntraced(function*(commonName: string = "Example CA") {
  const keys = yield* generateKeys
  // Peers check the certificates against the machine's clock, so this code uses it, too. The validity starts one hour
  // early, for peers whose clock is behind.
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
          entries: identities.map(({ cert }) => ({
            serialNumber: new x509.X509Certificate(cert).serialNumber,
            // Without a reason, an empty list of extensions is written, which some systems refuse to read.
            reason: x509.X509CrlReason.keyCompromise
          }))
        })
        // OpenSSL does not know the PEM label that the library itself uses.
        return x509.PemConverter.encode(list.rawData, "X509 CRL")
      })
  }
  return authority
})

/**
 * A temporary directory with the files `ca.pem`, `server.pem`, `server-key.pem`, `client.pem` and `client-key.pem`. It
 * is removed with the Scope.
 */
export const makeDirectory = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "certificates-" })
  const authority = yield* makeAuthority()
  yield* fs.writeFileString(path.join(directory, "ca.pem"), authority.ca)
  yield* writeIdentity(directory, "server", yield* authority.server())
  yield* writeIdentity(directory, "client", yield* authority.client({ commonName: "client" }))
  return directory
})

/** Writes a certificate to `NAME.pem`, and its key to `NAME-key.pem`, which only this user can read. */
export const writeIdentity = Effect.fnUntraced(function*(directory: string, name: string, { cert, key }: Identity) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  yield* fs.writeFileString(path.join(directory, `${name}.pem`), cert)
  yield* fs.writeFileString(path.join(directory, `${name}-key.pem`), key, { mode: 0o600 })
})
