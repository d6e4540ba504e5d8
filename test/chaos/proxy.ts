/**
 * A proxy that does to connections what networks do: it cuts, delays, splits, half-closes and silences them. It never
 * changes, reorders or leaves out bytes on a connection that goes on.
 */
import * as net from "node:net"
import { Lane, reset, type Weather } from "./lane.ts"
import { localhost, type Place } from "./place.ts"
import type { Random } from "./random.ts"

export type Direction = "toServer" | "toClient"

export type Fault =
  /**
   * Each connection ends after so many more bytes in a direction: with a reset, in order, or in that direction only.
   */
  | {
    readonly _tag: "Cut"
    readonly direction: Direction
    readonly after: number
    readonly how: "reset" | "end" | "half-close"
  }
  /** Everything takes so many ms. */
  | { readonly _tag: "Delay"; readonly millis: number }
  /** What arrives together arrives in pieces, of so many bytes at most. */
  | { readonly _tag: "Split"; readonly largest: number }
  /**
   * Nothing arrives in these directions. When it is healed, what was sent arrives after all, or the connections are
   * reset.
   */
  | {
    readonly _tag: "BlackHole"
    readonly directions: ReadonlyArray<Direction>
    readonly healedBy: "release" | "reset"
  }
  /**
   * As a black hole, but the connections of that time are never healed and never reset: only a keepalive probe notices.
   */
  | { readonly _tag: "Vanish" }
  /** Connections are accepted and reset. */
  | { readonly _tag: "Refuse" }

const clear = (): Weather => ({ delay: 0, pieces: undefined, held: false, budget: undefined })

/** A connection through the proxy. */
class Link {
  private readonly client: net.Socket
  private readonly server: net.Socket
  /** It is silent for good. */
  private vanished = false
  private readonly weather: Readonly<Record<Direction, Weather>> = { toServer: clear(), toClient: clear() }
  private readonly lanes: ReadonlyArray<Lane>
  private onCut: () => void = () => {}

  constructor(client: net.Socket, server: net.Socket, random: Random) {
    this.client = client
    this.server = server
    const { toClient, toServer } = this.weather
    this.lanes = [
      new Lane(client, server, toServer, random, () => this.onCut()),
      new Lane(server, client, toClient, random, () => this.onCut())
    ]
  }

  get sockets(): ReadonlyArray<net.Socket> {
    return [this.client, this.server]
  }

  apply(fault: Fault): void {
    if (this.vanished) return
    const both = Object.values(this.weather)
    switch (fault._tag) {
      case "Cut":
        this.weather[fault.direction].budget = fault.after
        this.onCut = () => {
          if (fault.how === "half-close") (fault.direction === "toServer" ? this.server : this.client).end()
          else this.end(fault.how)
        }
        break
      case "Delay":
        for (const weather of both) weather.delay = fault.millis
        break
      case "Split":
        for (const weather of both) weather.pieces = fault.largest
        break
      case "BlackHole":
        for (const direction of fault.directions) this.weather[direction].held = true
        break
      case "Vanish":
        this.vanished = true
        for (const weather of both) weather.held = true
        break
      case "Refuse":
        break
    }
    for (const lane of this.lanes) lane.pump()
  }

  heal(): void {
    if (this.vanished) return
    for (const weather of Object.values(this.weather)) Object.assign(weather, clear())
    for (const lane of this.lanes) lane.pump()
  }

  end(how: "reset" | "end"): void {
    for (const lane of this.lanes) lane.stop()
    for (const socket of this.sockets) {
      if (how === "end") socket.end()
      else reset(socket)
    }
  }
}

export class Proxy {
  private readonly server: net.Server
  private readonly random: Random
  private target: Place
  private fault: Fault | undefined = undefined
  private readonly links = new Set<Link>()

  constructor(target: Place, random: Random) {
    this.target = target
    this.random = random
    this.server = net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.accept(client))
  }

  /** Listens, on a free port where it is 0; gives where. */
  listen(place: Place): Promise<Place> {
    return new Promise((resolve, reject) => {
      this.server.once("error", reject)
      this.server.listen("path" in place ? place : { ...place, host: localhost }, () => {
        const address = this.server.address()
        resolve(typeof address === "object" && address !== null ? { port: address.port } : place)
      })
    })
  }

  get connections(): number {
    return this.links.size
  }

  /** Where connections lead to from now on. */
  aim(target: Place): void {
    this.target = target
  }

  /** Connections get into trouble: the open ones, and later ones, until it is healed. */
  apply(fault: Fault): void {
    this.fault = fault
    for (const link of this.links) link.apply(fault)
  }

  /** Ends the trouble. */
  heal(): void {
    const { fault } = this
    this.fault = undefined
    for (const link of [...this.links]) {
      if (fault?._tag === "BlackHole" && fault.healedBy === "reset") link.end("reset")
      else link.heal()
    }
  }

  close(): void {
    this.server.close()
    for (const link of this.links) link.end("reset")
  }

  private accept(client: net.Socket): void {
    const { fault, target } = this
    if (fault?._tag === "Refuse") {
      client.on("error", () => {})
      return reset(client)
    }
    const server = net.connect({
      ...("path" in target ? target : { ...target, host: localhost, noDelay: true }),
      allowHalfOpen: true
    })
    const link = new Link(client, server, this.random)
    this.links.add(link)
    for (const socket of link.sockets) {
      socket.on("error", () => {})
      socket.on("close", () => {
        if (link.sockets.every(({ closed }) => closed)) this.links.delete(link)
      })
    }
    if (fault !== undefined) link.apply(fault)
  }
}
