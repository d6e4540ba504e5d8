/**
 * The baseline of mTLS: the raw loop over `node:tls`, with certificates on both sides.
 */
import * as tls from "node:tls"
import type { System } from "../system.ts"
import { answer, rawClient } from "./rawLoop.ts"

/** Where a TLS server is, and what its client needs. */
export interface TlsAddress {
  readonly address: string
  readonly ca: string
  readonly cert: string
  readonly key: string
}

export const rawTls: System = {
  serve: async () => {
    const { makeCertificates } = await import("./certificates.ts")
    const { ca, client, server: own } = await makeCertificates()
    const server = tls.createServer({ ca, ...own, requestCert: true, noDelay: true }, answer)
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const bound = server.address()
    const port = typeof bound === "object" && bound !== null ? bound.port : 0
    return JSON.stringify({ address: String(port), ca, ...client } satisfies TlsAddress)
  },
  connect: (address) =>
    new Promise((resolve, reject) => {
      // What `serve` has written.
      const { address: port, ...options } = JSON.parse(address) as TlsAddress
      const socket = tls.connect(
        { host: "127.0.0.1", port: Number(port), ...options },
        () => resolve(rawClient(socket))
      )
      socket.setNoDelay(true)
      socket.once("error", reject)
    })
}
