/**
 * Addresses in the form of telemetry: OpenTelemetry's `server.address` and `server.port`. It does not know what is
 * measured.
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
 * as `memory://a`, is used unchanged.
 */
export const serverAddress = (address: string): ServerAddress => {
  const parsed = Result.getOrUndefined(parseAddress(address))
  if (parsed === undefined) return { address, port: undefined }
  const target = Result.getOrUndefined(parseTarget(parsed.network, parsed.addr))
  // For an abstract Unix socket, the text is used, since the path has a NUL.
  if (target?._tag !== "Tcp") return { address: parsed.addr, port: undefined }
  return { address: target.host === "" ? "localhost" : target.host, port: target.port }
}
