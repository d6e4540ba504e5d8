/**
 * Addresses as Go's `net.Dial` reads them: a network (`tcp`, `tcp4`, `tcp6`, `unix`) and the text of an address in it.
 * It reads and writes texts. It opens nothing.
 *
 * No function throws: a problem with a text is returned as a sentence that names the text.
 */
import * as Result from "effect/Result"
import { Buffer } from "node:buffer"
import { isIP, isIPv4, isIPv6 } from "node:net"
import process from "node:process"
import { servicePort } from "./services.ts"

/** A place in the network, read from a text. */
export type Target = TcpTarget | UnixTarget

/** `family` 0 means either family. An empty `host` means this host. */
export interface TcpTarget {
  readonly _tag: "Tcp"
  readonly host: string
  readonly port: number
  readonly family: 0 | 4 | 6
}

/** `path` is as `node:net` takes it: a name in Linux's abstract namespace begins with a NUL. */
export interface UnixTarget {
  readonly _tag: "Unix"
  readonly path: string
}

const families: ReadonlyMap<string, TcpTarget["family"]> = new Map([["tcp", 0], ["tcp4", 4], ["tcp6", 6]])

const quote = (text: string): string => JSON.stringify(text)

const splitHostPort = (text: string): Result.Result<{ readonly host: string; readonly port: string }, string> => {
  const colon = text.lastIndexOf(":")
  const missingPort = `${quote(text)} has no port: expected "host:port"`
  const tooManyColons = `${quote(text)} has too many colons: an IPv6 address is written in brackets, as in "[::1]:80"`
  if (colon === -1) return Result.fail(missingPort)
  let host: string
  if (text.startsWith("[")) {
    const end = text.indexOf("]")
    if (end === -1) return Result.fail(`${quote(text)} has no "]" for its "["`)
    if (end + 1 !== colon) return Result.fail(text[end + 1] === ":" ? tooManyColons : missingPort)
    host = text.slice(1, end)
  } else {
    host = text.slice(0, colon)
    if (host.includes(":")) return Result.fail(tooManyColons)
  }
  if (/[[\]]/.test(host) || /[[\]]/.test(text.slice(colon))) {
    return Result.fail(`${quote(text)} has a misplaced bracket: expected "host:port" or "[host]:port"`)
  }
  const port = text.slice(colon + 1)
  return port === "" ? Result.fail(missingPort) : Result.succeed({ host, port })
}

const parsePort = (text: string): number | undefined => {
  if (!/^\d+$/.test(text)) return servicePort(text)
  const port = Number(text)
  return port <= 65_535 ? port : undefined
}

/** Reads `host:port`. The port may be the name of a service, and the host an IPv6 address in brackets. */
export const parseTcp = (network: string, text: string): Result.Result<TcpTarget, string> => {
  const family = families.get(network) ?? 0
  const split = splitHostPort(text)
  if (Result.isFailure(split)) return Result.fail(split.failure)
  const { host } = split.success
  const port = parsePort(split.success.port)
  if (port === undefined) {
    return Result.fail(
      `${quote(split.success.port)} in ${
        quote(text)
      } is not a port: expected a number from 0 to 65535 or the name of a TCP service`
    )
  }
  if ((family === 4 && isIPv6(host)) || (family === 6 && isIPv4(host))) {
    return Result.fail(`${quote(host)} is not an IPv${family} address, which ${network} needs`)
  }
  return Result.succeed({ _tag: "Tcp", host, port, family })
}

/**
 * The longest path of a Unix socket, in bytes. The system needs one byte for a NUL. (Paths of other files may be
 * longer.)
 */
export const longestPath = process.platform === "linux" ? 107 : 103

/** The longest name in Linux's abstract namespace, in bytes, with the NUL before it. */
const longestAbstract = 108

/** Reads the path of a Unix socket. As in Go, a leading `@` stands for the NUL of Linux's abstract namespace. */
export const parseUnix = (text: string): Result.Result<UnixTarget, string> => {
  if (text === "") return Result.fail("the path of the Unix socket is empty")
  if (text.includes("\0", 1)) return Result.fail(`${quote(text)} is not a path: it has a NUL in it`)
  const target: UnixTarget = { _tag: "Unix", path: text.startsWith("@") ? `\0${text.slice(1)}` : text }
  const length = Buffer.byteLength(text)
  const longest = isAbstract(target) && process.platform === "linux" ? longestAbstract : longestPath
  if (length > longest) {
    return Result.fail(
      `${quote(text)} is too long for a Unix socket: it has ${length} bytes, expected at most ${longest}`
    )
  }
  return Result.succeed(target)
}

/** Whether a Unix socket lives in Linux's abstract namespace, and not in the file system. */
export const isAbstract = (target: UnixTarget): boolean => target.path.startsWith("\0")

/** Reads an address of a network. */
export const parseTarget = (network: string, addr: string): Result.Result<Target, string> => {
  if (network === "unix") return parseUnix(addr)
  if (families.has(network)) return parseTcp(network, addr)
  return Result.fail(`${quote(network)} is not a network: expected tcp, tcp4, tcp6 or unix`)
}

const mtls = "mtls://"

/** Splits `network://addr`, after any number of `mtls://`, and checks it. */
export const parseAddress = (
  text: string
): Result.Result<{ readonly network: string; readonly addr: string }, string> => {
  let rest = text
  while (rest.startsWith(mtls)) rest = rest.slice(mtls.length)
  const separator = rest.indexOf("://")
  if (separator === -1) return Result.fail(`${quote(rest)} has no network: expected "network://address"`)
  const network = rest.slice(0, separator)
  const addr = rest.slice(separator + 3)
  return Result.map(parseTarget(network, addr), () => ({ network, addr }))
}

/** The IPv4 address behind an IPv4-mapped IPv6 address; any other address is unchanged. */
export const unmapped = (host: string): string => /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)?.[1] ?? host

/** The text of an address and a port. */
export const formatTcp = (host: string, port: number): string => {
  const shown = unmapped(host)
  return shown.includes(":") ? `[${shown}]:${port}` : `${shown}:${port}`
}

/** Whether a host is unspecified: empty, `0.0.0.0` or `::`. Dialing it means this host. */
export const isUnspecified = (host: string): boolean => host === "" || (isIP(host) !== 0 && /^[0:.]+$/.test(host))

/** Whether an IP address is a loopback address. */
export const isLoopback = (address: string): boolean => address === "::1" || unmapped(address).startsWith("127.")
