/**
 * The process of the soak's network: proxies with faults, and a peer that says nothing. `node network.ts SEED`, with an
 * IPC channel.
 */
import * as net from "node:net"
import { localhost, type Place } from "./place.ts"
import { answerDriver } from "./process.ts"
import { type Fault, Proxy } from "./proxy.ts"
import { Random } from "./random.ts"

/** What it is asked. */
export type Question =
  /** To put a proxy of this name at a place, in front of another; the answer is where it is, a {@link Place}. */
  | { readonly _tag: "Add"; readonly name: string; readonly place: Place; readonly target: Place }
  | { readonly _tag: "Aim"; readonly name: string; readonly target: Place }
  | { readonly _tag: "Fault"; readonly name: string; readonly fault: Fault }
  | { readonly _tag: "Heal"; readonly name: string }
  /** To accept connections and never say anything; the answer is where, a {@link Place}. */
  | { readonly _tag: "BeSilent" }
  /** To end all connections. */
  | { readonly _tag: "Close" }

const [seed = "0"] = process.argv.slice(2)
const proxies = new Map<string, Proxy>()
const silent = new Set<net.Socket>()

const proxyOf = (name: string): Proxy => {
  const proxy = proxies.get(name)
  if (proxy === undefined) throw new Error(`there is no proxy ${name}`)
  return proxy
}

const beSilent = (): Promise<Place> =>
  new Promise((resolve) => {
    const server = net.createServer((socket) => {
      silent.add(socket)
      socket.on("error", () => {}).on("close", () => silent.delete(socket)).resume()
    })
    server.listen(0, localhost, () => {
      const address = server.address()
      resolve({ port: typeof address === "object" && address !== null ? address.port : 0 })
    })
  })

const done = {}

answerDriver<Question>((question) => {
  switch (question._tag) {
    case "Add": {
      const proxy = new Proxy(question.target, new Random(Number(seed), `proxy ${question.name}`))
      proxies.set(question.name, proxy)
      return proxy.listen(question.place)
    }
    case "Aim":
      proxyOf(question.name).aim(question.target)
      return done
    case "Fault":
      proxyOf(question.name).apply(question.fault)
      return done
    case "Heal":
      proxyOf(question.name).heal()
      return done
    case "BeSilent":
      return beSilent()
    case "Close":
      for (const proxy of proxies.values()) proxy.close()
      for (const socket of silent) socket.destroy()
      return done
  }
})
