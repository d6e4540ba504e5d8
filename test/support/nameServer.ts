/** A name server of a test's own, on loopback: what dnsmasq cannot do is to be silent about some questions. */
import { Effect, type Scope } from "effect"
import { Buffer } from "node:buffer"
import { createSocket, type Socket } from "node:dgram"

export type Question = `${"A" | "AAAA" | "SRV" | number} ${string}`

/** IPv4 or IPv6 addresses, for a name that is there; `undefined`: no answer for now. */
export type Answers = (question: Question) => ReadonlyArray<string> | undefined

const types: Readonly<Record<number, "A" | "AAAA" | "SRV">> = { 1: "A", 28: "AAAA", 33: "SRV" }

const bytesOf = (address: string): Buffer =>
  address.includes(":")
    // Only short ones: "2001:db8::1".
    ? (() => {
      const [head = "", tail = ""] = address.split("::").map((part) =>
        part.split(":").map((word) => word.padStart(4, "0")).join("")
      )
      return Buffer.from(head + tail.padStart(32 - head.length, "0"), "hex")
    })()
    : Buffer.from(address.split(".").map(Number))

export interface NameServer {
  readonly address: string
  readonly asked: ReadonlyArray<Question>
  /** Answers what it has not answered yet, where it knows an answer by now. */
  readonly answerHeld: () => void
}

/** Starts one; it ends with the Scope. Its records are good for a second. */
export const startNameServer = Effect.fnUntraced(function*(
  answers: Answers,
  host = "127.0.0.1",
  port = 0
): Effect.fn.Return<NameServer, never, Scope.Scope> {
  const asked: Array<Question> = []
  let held: Array<() => void> = []
  const socket = yield* Effect.acquireRelease(
    Effect.callback<Socket>((resume) => {
      const socket = createSocket("udp4")
      socket.bind(port, host, () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => socket.close())
  )
  socket.on("message", (query, from) => {
    const labels: Array<string> = []
    let end = 12
    for (let length = query[end]!; length !== 0; length = query[end]!) {
      labels.push(query.toString("latin1", end + 1, end + 1 + length))
      end += 1 + length
    }
    const type = query.readUInt16BE(end + 1)
    const question: Question = `${types[type] ?? type} ${labels.join(".")}`
    asked.push(question)
    const answer = () => {
      const found = answers(question)
      if (found === undefined) return void held.push(answer)
      const head = Buffer.from([query[0]!, query[1]!, 0x81, 0x80, 0, 1, 0, found.length, 0, 0, 0, 0])
      const records = found.flatMap((address) => {
        const bytes = bytesOf(address)
        return [Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 1, 0, bytes.length]), bytes]
      })
      socket.send(Buffer.concat([head, query.subarray(12, end + 5), ...records]), from.port, from.address)
    }
    answer()
  })
  return {
    address: `${host}:${socket.address().port}`,
    asked,
    answerHeld: () => {
      const all = held
      held = []
      for (const answer of all) answer()
    }
  }
})
