import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, References, Tracer } from "effect"
import { Connection, Deadline } from "effect-call"
import { background } from "../../../src/internal/ambient/background.ts"
import { CurrentOptions } from "../../../src/internal/ambient/callOptions.ts"
import { Current } from "../../../src/internal/ambient/deadline.ts"

class Service extends Context.Service<Service, { readonly name: string }>()("test/Service") {}

describe("the context of work that belongs to no call", () => {
  it.effect("has the services of the fiber, and nothing of the call in which it starts", () =>
    Effect.gen(function*() {
      const context = yield* background.pipe(
        (effect) => Connection.withOptions(effect, { timeout: 1 }),
        Deadline.within("1 hour"),
        Effect.withSpan("the call"),
        Effect.annotateLogs("call", 1),
        Effect.provideService(Service, { name: "kept" }),
        Effect.scoped
      )
      assert.deepStrictEqual(Context.getOption(context as Context.Context<Service>, Service)._tag, "Some")
      const left = [Current, CurrentOptions, References.CurrentLogAnnotations, Tracer.ParentSpan].map(({ key }) =>
        context.mapUnsafe.has(key)
      )
      assert.deepStrictEqual(left, [false, false, false, false])
    }))
})
