/**
 * Connect's own protocol over HTTP/2 without TLS: one connection, and a unary method on protobuf's `BytesValue`.
 * HTTP/2 sets `noDelay` on both ends by itself.
 */
import { create, toBinary } from "@bufbuild/protobuf"
import { fileDesc, type GenService, serviceDesc } from "@bufbuild/protobuf/codegenv2"
import { base64Encode } from "@bufbuild/protobuf/wire"
import { type BytesValueSchema, file_google_protobuf_wrappers, FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt"
import { createClient } from "@connectrpc/connect"
import { connectNodeAdapter, createConnectTransport } from "@connectrpc/connect-node"
import { createServer } from "node:http2"
import { runPromises, type System } from "../system.ts"

/** What would be generated from `benchmark/echo.proto`, made by the same functions that generated code calls. */
const EchoService: GenService<{
  echo: { methodKind: "unary"; input: typeof BytesValueSchema; output: typeof BytesValueSchema }
}> = (() => {
  const bytesValue = ".google.protobuf.BytesValue"
  const file = create(FileDescriptorProtoSchema, {
    name: "benchmark/echo.proto",
    package: "benchmark",
    syntax: "proto3",
    dependency: [file_google_protobuf_wrappers.proto.name],
    service: [{ name: "Echo", method: [{ name: "Echo", inputType: bytesValue, outputType: bytesValue }] }]
  })
  const encoded = base64Encode(toBinary(FileDescriptorProtoSchema, file))
  return serviceDesc(fileDesc(encoded, [file_google_protobuf_wrappers]), 0)
})()

export const connect: System = {
  serve: () =>
    new Promise((resolve) => {
      const server = createServer(
        connectNodeAdapter({ routes: (router) => router.service(EchoService, { echo: (request) => request }) })
      )
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resolve(String(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
  connect: async (port) => {
    const transport = createConnectTransport({
      baseUrl: `http://127.0.0.1:${port}`,
      httpVersion: "2",
      // By default the server would compress its answers, and none of the others does.
      acceptCompression: []
    })
    const client = createClient(EchoService, transport)
    const echo = async (payload: Uint8Array) => (await client.echo({ value: payload })).value
    return { echo, run: runPromises(async (payload) => (await echo(payload)).length) }
  }
}
