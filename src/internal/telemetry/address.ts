/**
 * Addresses as telemetry names them: OpenTelemetry's `server.address` and `server.port`.
 */
import * as Result from "effect/Result"
import { parseAddress, parseTarget } from "../net/address.ts"

export interface ServerAddress {
  readonly address: string
  /** Undefined if the address has no port. */
  readonly port: number | undefined
}

/**
 * Reads the address of an endpoint or a listener: a host and a port, or the path of a socket. Any other address, such
 * as `memory://a`, is taken as a whole.
 */
export const serverAddress = (address: string): ServerAddress => {
  const parsed = Result.getOrUndefined(parseAddress(address))
  if (parsed === undefined) return { address, port: undefined }
  const target = Result.getOrUndefined(parseTarget(parsed.network, parsed.addr))
  // The text of an abstract Unix socket, since its path has a NUL.
  if (target?._tag !== "Tcp") return { address: parsed.addr, port: undefined }
  return { address: target.host === "" ? "localhost" : target.host, port: target.port }
}
