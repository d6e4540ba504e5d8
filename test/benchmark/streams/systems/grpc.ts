/**
 * gRPC as grpc-js does it: one channel, server streaming, messages that are the bytes themselves, so that no
 * serialization is measured. It has no chunks: each item is a message, and the server waits for `drain` when it is told
 * to.
 */
import {
  type Client,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  makeGenericClientConstructor,
  type requestCallback,
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream
} from "@grpc/grpc-js"
import {
  type Feed,
  feedFromBytes,
  feedToBytes,
  itemOf,
  served,
  sizeFromBytes,
  sizeToBytes,
  type StreamSystem,
  type Take
} from "../system.ts"

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
const asBytes = (bytes: Buffer): Uint8Array => bytes

const method = (name: string, responseStream: boolean) => ({
  path: `/benchmark.Streams/${name}`,
  requestStream: false,
  responseStream,
  requestSerialize: asBuffer,
  requestDeserialize: asBytes,
  responseSerialize: asBuffer,
  responseDeserialize: asBytes
})

const service = { items: method("Items", true), answer: method("Answer", false) }

/** No payload is too large, and each client has a connection of its own. */
const options = {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  "grpc.use_local_subchannel_pool": 1
}

interface StreamsClient extends Client {
  readonly items: (request: Uint8Array) => ClientReadableStream<Uint8Array>
  readonly answer: (request: Uint8Array, callback: requestCallback<Uint8Array>) => ClientUnaryCall
}

const makeClient = (port: string): StreamsClient => {
  const StreamsClient = makeGenericClientConstructor(service, "benchmark.Streams")
  const client: Client = new StreamsClient(`127.0.0.1:${port}`, credentials.createInsecure(), options)
  // It has a method for each of the service's, of which its type does not know.
  return client as StreamsClient
}

const feed = (call: ServerWritableStream<Uint8Array, Uint8Array>): void => {
  const { chunk, chunks, itemBytes } = feedFromBytes(call.request)
  const item = itemOf(itemBytes)
  served.streams++
  let left = chunks * chunk
  call.on("error", () => {})
  const write = () => {
    while (!call.cancelled) {
      if (left-- <= 0) {
        call.end()
        return
      }
      served.items++
      if (!call.write(item)) {
        call.once("drain", write)
        return
      }
    }
  }
  // Of an idle stream nothing comes, not even its end.
  if (left > 0) write()
}

const openOne = (client: StreamsClient, request: Feed, take: Take) => {
  const call = client.items(feedToBytes(request))
  let stopping = false
  call.on("data", (item: Uint8Array) => {
    if (!take(1, item)) call.pause()
  })
  const ended = new Promise<void>((resolve, reject) => {
    call.once("end", resolve)
    call.once("error", (error) => {
      if (stopping) resolve()
      else reject(error)
    })
  })
  return {
    ended,
    stop: () => {
      stopping = true
      call.cancel()
      call.resume()
      return ended
    }
  }
}

export const grpc: StreamSystem = {
  serve: () =>
    new Promise((resolve, reject) => {
      const server = new Server(options)
      server.addService(service, {
        items: feed,
        answer: ({ request }: ServerUnaryCall<Uint8Array, Uint8Array>, callback: sendUnaryData<Uint8Array>) =>
          callback(null, itemOf(sizeFromBytes(request)))
      })
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
        if (error === null) resolve(String(port))
        else reject(error)
      })
    }),
  connect: async (port) => {
    const client = makeClient(port)
    return {
      call: (bytes) =>
        new Promise((resolve, reject) =>
          client.answer(sizeToBytes(bytes), (error, answer) => {
            if (answer === undefined) reject(error ?? new Error("there is no answer"))
            else resolve(answer.length)
          })
        ),
      open: (request, streams, take) => {
        const calls = Array.from({ length: streams }, () => openOne(client, request, take))
        return {
          ended: Promise.all(calls.map(({ ended }) => ended)).then(() => {}),
          stop: () => Promise.all(calls.map(({ stop }) => stop())).then(() => {})
        }
      }
    }
  }
}
