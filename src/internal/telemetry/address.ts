/**
 * Addresses as telemetry names them: OpenTelemetry's `server.address` and `server.port`.
 */
import * as Result from "effect/Result"
import { parseAddress, parseTarget } from "../net/address.ts"

export interface ServerAddress {
  readonly address: string
  /** There where the address has one. */
  readonly port: number | undefined
}

/** Reads the address of an endpoint or a listener: a host and a port, or the path of a socket, or else, as with `memory://a`, all of it. */
export const serverAddress = (address: string): ServerAddress => {
  const parsed = Result.getOrUndefined(parseAddress(address))
  if (parsed === undefined) return { address, port: undefined }
  const target = Result.getOrUndefined(parseTarget(parsed.network, parsed.addr))
  // The text of a Unix socket's address: the path itself has a NUL in it where it is abstract.
  if (target?._tag !== "Tcp") return { address: parsed.addr, port: undefined }
  return { address: target.host === "" ? "localhost" : target.host, port: target.port }
}
