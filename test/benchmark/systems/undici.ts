/**
 * Plain HTTP/1.1, undici against `node:http`: a connection carries one call at a time, so there are as many of them as
 * there are callers.
 */
import { createServer } from "node:http"
import { Pool } from "undici"
import { runPromises, type System } from "../system.ts"

const headers = { "content-type": "application/octet-stream" }

export const undici: System = {
  serve: () =>
    new Promise((resolve) => {
      // Connections have to outlast the turns of other systems, as everybody else's do.
      const server = createServer({ noDelay: true, keepAliveTimeout: 600_000 }, (request, response) => {
        const chunks: Array<Buffer> = []
        request.on("data", (chunk: Buffer) => chunks.push(chunk))
        request.on("end", () => {
          const body = Buffer.concat(chunks)
          response.writeHead(200, { ...headers, "content-length": body.length }).end(body)
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resolve(String(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
  connect: async (port) => {
    // It sets `noDelay` by itself.
    const pool = new Pool(`http://127.0.0.1:${port}`, { connections: 256, pipelining: 1 })
    const echo = async (payload: Uint8Array) => {
      const { body } = await pool.request({ path: "/echo", method: "POST", headers, body: payload })
      return body.bytes()
    }
    return { echo, run: runPromises(async (payload) => (await echo(payload)).length) }
  }
}
