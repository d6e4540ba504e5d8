/**
 * gRPC as grpc-js does it: one channel, and a unary method whose messages are the bytes themselves, so that no
 * serialization is measured. HTTP/2 sets `noDelay` on both ends by itself.
 */
import {
  type Client,
  type ClientUnaryCall,
  credentials,
  makeGenericClientConstructor,
  type requestCallback,
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerUnaryCall
} from "@grpc/grpc-js"
import { runCallbacks, type System } from "../system.ts"

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
const asBytes = (bytes: Buffer): Uint8Array => bytes

const service = {
  echo: {
    path: "/benchmark.Echo/Echo",
    requestStream: false,
    responseStream: false,
    requestSerialize: asBuffer,
    requestDeserialize: asBytes,
    responseSerialize: asBuffer,
    responseDeserialize: asBytes
  }
}

/** No payload is too large. */
const limits = { "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 }

interface EchoClient extends Client {
  readonly echo: (payload: Uint8Array, callback: requestCallback<Uint8Array>) => ClientUnaryCall
}

const makeClient = (port: string): EchoClient => {
  const EchoClient = makeGenericClientConstructor(service, "benchmark.Echo")
  const client: Client = new EchoClient(`127.0.0.1:${port}`, credentials.createInsecure(), limits)
  // It has a method for each of the service's, of which its type does not know.
  return client as EchoClient
}

export const grpc: System = {
  serve: () =>
    new Promise((resolve, reject) => {
      const server = new Server(limits)
      server.addService(service, {
        echo: ({ request }: ServerUnaryCall<Uint8Array, Uint8Array>, callback: sendUnaryData<Uint8Array>) =>
          callback(null, request)
      })
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
        if (error === null) resolve(String(port))
        else reject(error)
      })
    }),
  connect: async (port) => {
    const client = makeClient(port)
    return {
      echo: (payload) =>
        new Promise((resolve, reject) =>
          client.echo(payload, (error, answer) => {
            if (answer === undefined) reject(error ?? new Error("there is no answer"))
            else resolve(answer)
          })
        ),
      run: runCallbacks((payload, done) =>
        client.echo(payload, (error, answer) => {
          if (answer === undefined) throw error ?? new Error("there is no answer")
          done(answer.length)
        })
      )
    }
  }
}
