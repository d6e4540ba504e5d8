/**
 * The baseline: `node:net` with the same frames and nothing around them, `"data"` events and one coalesced write per
 * turn.
 */
import * as net from "node:net"
import type { System } from "../system.ts"
import { answer, rawClient } from "./rawLoop.ts"

export const raw: System = {
  serve: () =>
    new Promise((resolve) => {
      const server = net.createServer({ noDelay: true }, answer)
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resolve(String(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
  connect: (port) =>
    new Promise((resolve, reject) => {
      const socket = net.connect({ port: Number(port), host: "127.0.0.1", noDelay: true }, () =>
        resolve(rawClient(socket)))
      socket.once("error", reject)
    })
}
