/**
 * Reads the parts of the texts that name resolvers, `scheme://address`. It knows no kind of resolver.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Endpoint from "../../Endpoint.ts"
import { parseAddress } from "../net/address.ts"
import { InvalidResolver } from "./model.ts"

const quote = (text: string): string => JSON.stringify(text)

/** Splits a text into its scheme and its address. */
export const splitScheme = (
  text: string
): Result.Result<{ readonly scheme: string; readonly address: string }, string> => {
  const separator = text.indexOf("://")
  return separator === -1
    ? Result.fail(`${quote(text)} has no scheme: expected "scheme://address"`)
    : Result.succeed({ scheme: text.slice(0, separator), address: text.slice(separator + 3) })
}

/** Whether a text can be a scheme. */
export const isScheme = (scheme: string): boolean => /^[a-z][a-z0-9+.-]*$/.test(scheme)

/** Reads `a,b,c`, addresses of one network. An address can name another network: `tcp://b:7000`. */
export const parseEndpoints = (
  network: string,
  addresses: string
): Effect.Effect<ReadonlyArray<Endpoint.Endpoint>, InvalidResolver> =>
  Effect.forEach(addresses.split(","), (item) => {
    const address = item.trim()
    const parsed = parseAddress(address.includes("://") ? address : `${network}://${address}`)
    if (Result.isFailure(parsed)) return Effect.fail(new InvalidResolver({ message: parsed.failure, text: item }))
    return Effect.succeed(Endpoint.net(parsed.success.network, parsed.success.addr))
  })

/** Splits `path?network://a,b` into the path of a file and the endpoints that come with it. */
export const splitFile = (
  address: string
): Result.Result<{ readonly path: string; readonly endpoints: string }, string> => {
  const separator = address.indexOf("?")
  const path = separator === -1 ? address : address.slice(0, separator)
  if (path === "" || separator === -1) {
    return Result.fail(
      `${
        quote(address)
      } does not name a file and endpoints: expected "path?network://address", as in "/run/cart.ready?tcp://10.0.0.1:7000"`
    )
  }
  return Result.succeed({ path, endpoints: address.slice(separator + 1) })
}
