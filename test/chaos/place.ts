/**
 * Where something listens on this machine, and its address as a text.
 */

/** A port of this machine (0: one that is free), or the path of a Unix socket. */
export type Place = { readonly port: number } | { readonly path: string }

export const localhost = "127.0.0.1"

/** The address of a place, as `Endpoint.parse` takes it. */
export const addressOf = (place: Place): string =>
  "path" in place ? `unix://${place.path}` : `tcp://${localhost}:${place.port}`

/** The place of an address, such as a listener's. */
export const placeOf = (address: string): Place => {
  const [, path] = /unix:\/\/(.+)$/.exec(address) ?? []
  return path === undefined ? { port: Number(address.slice(address.lastIndexOf(":") + 1)) } : { path }
}
