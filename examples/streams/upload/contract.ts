/**
 * The contract of a store of files, and its handlers. An upload is a stream of parts, with one result.
 */
import { Effect, Schema, Stream } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import { createHash } from "node:crypto"

export class QuotaExceeded extends Schema.TaggedError<QuotaExceeded>()("QuotaExceeded", { mebibytes: Schema.Int }) {}

const Upload = Rpc.make("Upload", {
  payload: { name: Schema.String },
  success: Schema.Struct({ bytes: Schema.Int, sha256: Schema.String }),
  error: QuotaExceeded
}).pipe(Component.accepts(Schema.Uint8Array))

export const Files = Component.make("example/Files", RpcGroup.make(Upload))

/** No file may be larger, in MiB. */
const quota = 48

export const FilesHandlers = Files.group.toLayer({
  Upload: () =>
    Effect.gen(function*() {
      const hash = createHash("sha256")
      let bytes = 0
      const parts = yield* Component.items(Upload)
      yield* Stream.runForEach(parts, (part) => {
        bytes += part.length
        if (bytes > quota * 1024 * 1024) return Effect.fail(new QuotaExceeded({ mebibytes: quota }))
        hash.update(part)
        // Here a real handler writes the part. Until that is done, no further one is taken.
        return Effect.sleep("2 millis")
      })
      return { bytes, sha256: hash.digest("hex") }
    })
})
