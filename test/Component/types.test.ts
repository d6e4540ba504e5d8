/**
 * What the types of components promise: what a call gives and fails with, what clients and handlers need, and what is
 * no program.
 *
 * They are checked by the compiler (`npm run typecheck`), which also complains where a line that is marked as an error
 * is none.
 */
import { describe, expectTypeOf, it } from "@effect/vitest"
import { type Cause, Context, Effect, Layer, Queue, Schema, SchemaGetter, type Scope, Stream } from "effect"
import { type CallError, Component, type Connection, type HandlerMap } from "effect-call"
import { Rpc, type RpcClient, RpcGroup, RpcMiddleware } from "effect/rpc"

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", {}) {}
class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
class Offline extends Schema.TaggedError<Offline>()("Offline", {}) {}
class User extends Context.Service<User, { readonly name: string }>()("User") {}
class Database extends Context.Service<Database, { readonly get: Effect.Effect<string> }>()("Database") {}
class Cipher extends Context.Service<Cipher, { readonly key: number }>()("Cipher") {}
/** It provides a service to handlers, and may fail. */
class Auth extends RpcMiddleware.Service<Auth, { provides: User }>()("Auth", { error: Denied }) {}
/** It has a client's half, which is required and may fail. */
class Local extends RpcMiddleware.Service<Local, { clientError: Offline }>()("Local", { requiredForClient: true }) {}

/** A schema that needs a service, both ways. */
const Secret = Schema.String.pipe(Schema.decodeTo(Schema.String, {
  decode: SchemaGetter.transformEffect((text: string) => Cipher.useSync(() => text)),
  encode: SchemaGetter.transformEffect((text: string) => Cipher.useSync(() => text))
}))

interface Item {
  readonly id: number
  readonly name: string
}
const Item = Schema.Struct({ id: Schema.Int, name: Schema.String })

const Get = Rpc.make("Get", {
  payload: { id: Schema.Int, note: Schema.String.pipe(Schema.withConstructorDefault(Effect.succeed(""))) },
  success: Item,
  error: NotFound
})
const Ping = Rpc.make("Ping")
const items = RpcGroup.make(Get, Ping)
const Items = Component.make("test/Items", items)

const guarded = RpcGroup.make(
  Rpc.make("Admin", { success: Schema.String, error: NotFound }).middleware(Auth),
  Rpc.make("Here").middleware(Local)
)
const Guarded = Component.make("test/Guarded", guarded)

const secrets = RpcGroup.make(Rpc.make("Keep", { payload: Secret, success: Secret }))
const Secrets = Component.make("test/Secrets", secrets)

/** What is looked at here is never run. */
declare const client: Component.Client<typeof Items>
declare const guardedClient: Component.Client<typeof Guarded>
declare const secretsClient: Component.Client<typeof Secrets>

/** Compiles what it is given, and does not run it. */
const compiles = (program: () => unknown) => expectTypeOf(program).toBeFunction()
/** The same, with a value that exists only for the compiler. */
const declared = <A>(program: (value: A) => unknown) => expectTypeOf(program).toBeFunction()

const handlers = { Get: () => Effect.succeed({ id: 1, name: "tea" }), Ping: () => Effect.void }

describe("a component's types", () => {
  it("are the methods of its group", () => {
    expectTypeOf(Items).toEqualTypeOf<Component.Component<typeof Get | typeof Ping>>()
    expectTypeOf(Items.group).toEqualTypeOf(items)
    expectTypeOf<Component.Client<typeof Items>>().toEqualTypeOf<
      RpcClient.RpcClient<typeof Get | typeof Ping, CallError.CallError>
    >()
  })

  it("do not mix: one with more methods, or fewer, is another one", () => {
    const fewer = Component.make("test/Items", RpcGroup.make(Ping))
    expectTypeOf(Items).not.toExtend<typeof fewer>()
    expectTypeOf(fewer).not.toExtend<typeof Items>()
    const other = Component.make("test/Items", RpcGroup.make(Rpc.make("Ping", { success: Schema.String }), Get))
    expectTypeOf(other).not.toExtend<typeof Items>()
    compiles(() => {
      // @ts-expect-error it lacks a method
      const more: typeof Items = fewer
      // @ts-expect-error it has a method too many
      const less: typeof fewer = Items
      return [more, less]
    })
  })
})

describe("a client's method", () => {
  it("gives what the method does, and fails with its errors or a CallError, and nothing else", () => {
    compiles(() => {
      expectTypeOf(client.Get({ id: 1 })).toEqualTypeOf<Effect.Effect<Item, NotFound | CallError.CallError>>()
      expectTypeOf(client.Ping()).toEqualTypeOf<Effect.Effect<void, CallError.CallError>>()
    })
  })

  it("gives nothing where that is discarded, and has none of the method's errors", () => {
    compiles(() => {
      expectTypeOf(client.Get({ id: 1 }, { discard: true })).toEqualTypeOf<Effect.Effect<void, CallError.CallError>>()
      expectTypeOf(client.Get({ id: 1 }, { discard: false })).toEqualTypeOf(client.Get({ id: 1 }))
      expectTypeOf(guardedClient.Admin(undefined, { discard: true })).toEqualTypeOf<
        Effect.Effect<void, Denied | CallError.CallError>
      >()
    })
  })

  it("fails with the errors of its middleware, of servers and of clients", () => {
    compiles(() => {
      expectTypeOf(guardedClient.Admin()).toEqualTypeOf<
        Effect.Effect<string, NotFound | Denied | CallError.CallError>
      >()
      expectTypeOf(guardedClient.Here()).toEqualTypeOf<Effect.Effect<void, Offline | CallError.CallError>>()
    })
  })

  it("needs what its schemas need", () => {
    compiles(() => {
      expectTypeOf(secretsClient.Keep("x")).toEqualTypeOf<Effect.Effect<string, CallError.CallError, Cipher>>()
    })
  })

  it("takes what the payload's constructor takes: its fields, where fields with a default may be missing", () => {
    expectTypeOf<Rpc.PayloadConstructor<typeof Get>>().toEqualTypeOf<{ readonly id: number; readonly note?: string }>()
    expectTypeOf<Parameters<typeof client.Get>[0]>().toEqualTypeOf<Rpc.PayloadConstructor<typeof Get>>()
    compiles(() => {
      client.Get({ id: 1 }, { headers: { a: "1" } })
      // @ts-expect-error a field is missing
      client.Get({})
      // @ts-expect-error a field is of another type
      client.Get({ id: "1" })
      // @ts-expect-error there is no such field
      client.Get({ id: 1, name: "tea" })
      // @ts-expect-error there is no payload
      client.Ping({ id: 1 })
      // @ts-expect-error there is no such option
      client.Get({ id: 1 }, { timeout: "1 second" })
      // @ts-expect-error there is no such method
      client.Put({ id: 1 })
    })
  })
})

describe("a client", () => {
  it("needs a Connection, and the middleware that is required of it", () => {
    expectTypeOf(Component.client(Items)).toEqualTypeOf<
      Effect.Effect<Component.Client<typeof Items>, never, Connection.Connection>
    >()
    expectTypeOf(Component.client(Guarded)).toEqualTypeOf<
      Effect.Effect<
        Component.Client<typeof Guarded>,
        never,
        Connection.Connection | RpcMiddleware.ForClient<Local>
      >
    >()
    // Its schemas' services are those of its calls.
    expectTypeOf(Component.client(Secrets)).toEqualTypeOf<
      Effect.Effect<Component.Client<typeof Secrets>, never, Connection.Connection>
    >()
  })

  it("can be told its format, and whether it is traced", () => {
    expectTypeOf<Component.ClientOptions>().toEqualTypeOf<
      { readonly format?: "binary" | "json" | undefined; readonly disableTracing?: boolean | undefined }
    >()
    // @ts-expect-error there is no such format
    compiles(() => Component.client(Items, { format: "xml" }))
  })

  it("has the shape of a service", () => {
    class ItemsClient extends Context.Service<ItemsClient, Component.Client<typeof Items>>()("ItemsClient") {
      static readonly layer = Layer.effect(this, Component.client(Items))
    }
    expectTypeOf(ItemsClient.layer).toEqualTypeOf<Layer.Layer<ItemsClient, never, Connection.Connection>>()
    expectTypeOf<Component.Client<string>>().toBeNever()
  })
})

describe("handlers", () => {
  it("are a HandlerMap that needs nothing more", () => {
    expectTypeOf(Component.handlers(Items, items.toLayer(handlers))).toEqualTypeOf<
      Effect.Effect<HandlerMap.HandlerMap<never>, never, Scope.Scope>
    >()
  })

  it("need what their layer needs and fail as it fails", () => {
    const layer = items.toLayer(Effect.flatMap(Database, () => Effect.succeed(handlers))).pipe(
      Layer.tap(() => Effect.fail("E" as const))
    )
    expectTypeOf(layer).toEqualTypeOf<Layer.Layer<Rpc.ToHandler<typeof Get | typeof Ping>, "E", Database>>()
    expectTypeOf(Component.handlers(Items, layer)).toEqualTypeOf<
      Effect.Effect<HandlerMap.HandlerMap<never>, "E", Database | Scope.Scope>
    >()
    // What a single handler needs is its layer's need, but for its Scope.
    const using = items.toLayer({ ...handlers, Ping: () => Effect.andThen(Effect.scope, Effect.asVoid(Database)) })
    expectTypeOf(Component.handlers(Items, using)).toEqualTypeOf<
      Effect.Effect<HandlerMap.HandlerMap<never>, never, Database | Scope.Scope>
    >()
  })

  it("need their middleware, which provides what it does", () => {
    const layer = guarded.toLayer({ Admin: () => Effect.map(User, ({ name }) => name), Here: () => Effect.void })
    expectTypeOf(layer).toEqualTypeOf<Layer.Layer<Rpc.Handler<"Admin"> | Rpc.Handler<"Here">>>()
    expectTypeOf(Component.handlers(Guarded, layer)).toEqualTypeOf<
      Effect.Effect<HandlerMap.HandlerMap<never>, never, Auth | Local | Scope.Scope>
    >()
  })

  it("need what their schemas need", () => {
    const layer = secrets.toLayer({ Keep: (secret) => Effect.succeed(secret) })
    expectTypeOf(Component.handlers(Secrets, layer)).toEqualTypeOf<
      Effect.Effect<HandlerMap.HandlerMap<never>, never, Cipher | Scope.Scope>
    >()
  })

  it("are the services of all methods, and keep their types", () => {
    compiles(() => {
      // @ts-expect-error one is missing
      items.toLayer({ Get: handlers.Get })
      // @ts-expect-error its result is of another type
      items.toLayer({ ...handlers, Get: () => Effect.succeed({ id: "1", name: "tea" }) })
      // @ts-expect-error it fails with what the method does not
      items.toLayer({ ...handlers, Get: () => Effect.fail(new Denied()) })
      // @ts-expect-error the layer lacks one
      Component.handlers(Items, items.omit("Ping").toLayer({ Get: handlers.Get }))
      // One that has more is as good.
      Component.handlers(Items, items.add(Rpc.make("More")).toLayer({ ...handlers, More: () => Effect.void }))
    })
  })
})

describe("shardBy", () => {
  it("is given the method's payload, and does not change the method's type", () => {
    const key = Component.shardBy(Get, (payload) => {
      expectTypeOf(payload).toEqualTypeOf<{ readonly id: number; readonly note: string }>()
      return BigInt(payload.id)
    })
    expectTypeOf(key).toEqualTypeOf(Get)
    const piped = Get.pipe(Component.shardBy((payload) => {
      expectTypeOf(payload).toEqualTypeOf<{ readonly id: number; readonly note: string }>()
      return payload.note === "" ? undefined : payload.note
    }))
    expectTypeOf(piped).toEqualTypeOf(Get)
    compiles(() => {
      // @ts-expect-error a number is no key
      Component.shardBy(Get, ({ id }) => id)
      // @ts-expect-error there is no such field
      Component.shardBy(Get, ({ name }) => name)
      // @ts-expect-error nor is there one for a pipe
      return Get.pipe(Component.shardBy(({ name }) => name))
    })
  })
})

class Interrupted extends Schema.TaggedError<Interrupted>()("Interrupted", {}) {}

const Watch = Rpc.make("Watch", { payload: { id: Schema.Int }, success: Item, error: NotFound, stream: true })
const Upload = Rpc.make("Upload", { payload: { id: Schema.Int }, success: Schema.String, error: NotFound }).pipe(
  Component.accepts(Secret)
)
const Chat = Rpc.make("Chat", { success: Schema.String, error: NotFound, stream: true }).pipe(
  Component.accepts(Schema.Finite)
)
const streaming = RpcGroup.make(Watch, Upload, Chat).middleware(Auth).add(Ping)
const Streaming = Component.make("test/Streaming", streaming)

declare const streamingClient: Component.Client<typeof Streaming>

describe("a stream", () => {
  it("is typed as effect/rpc types it, where nothing is accepted", () => {
    const watching = RpcGroup.make(Watch)
    expectTypeOf<Component.Client<Component.Component<typeof Watch>>>().toEqualTypeOf<
      RpcClient.RpcClient<typeof Watch, CallError.CallError>
    >()
    expectTypeOf(Component.make("test/Watching", watching)).toEqualTypeOf<Component.Component<typeof Watch>>()
  })

  it("gives items, and fails with its own errors, those of middleware or a CallError", () => {
    compiles(() => {
      expectTypeOf(streamingClient.Watch({ id: 1 })).toEqualTypeOf<
        Stream.Stream<Item, NotFound | Denied | CallError.CallError>
      >()
      expectTypeOf(streamingClient.Watch({ id: 1 }, { asQueue: true, streamBufferSize: 4 })).toEqualTypeOf<
        Effect.Effect<
          Queue.Dequeue<Item, NotFound | Denied | CallError.CallError | Cause.Done>,
          never,
          Scope.Scope
        >
      >()
      expectTypeOf(streamingClient.Ping()).toEqualTypeOf<Effect.Effect<void, CallError.CallError>>()
    })
  })

  it("cannot be discarded", () => {
    compiles(() => {
      // @ts-expect-error there is no answer to leave out
      streamingClient.Watch({ id: 1 }, { discard: true })
      // @ts-expect-error nor for items
      streamingClient.Upload({ id: 1 }, Stream.empty, { discard: true })
    })
  })

  it("takes items, whose errors and services it has", () => {
    declared((items: Stream.Stream<string, Interrupted, Database>) => {
      expectTypeOf(streamingClient.Upload({ id: 1 }, items)).toEqualTypeOf<
        Effect.Effect<string, NotFound | Denied | CallError.CallError | Interrupted, Database | Cipher>
      >()
      // @ts-expect-error there are no items
      streamingClient.Upload({ id: 1 })
      // @ts-expect-error they are of another type
      streamingClient.Upload({ id: 1 }, Stream.make(1))
      // @ts-expect-error it takes none
      streamingClient.Watch({ id: 1 }, Stream.make(1))
    })
    declared((items: Stream.Stream<number, Interrupted, Database>) => {
      expectTypeOf(streamingClient.Chat(undefined, items)).toEqualTypeOf<
        Stream.Stream<string, NotFound | Denied | CallError.CallError | Interrupted, Database>
      >()
      expectTypeOf(streamingClient.Chat(undefined, items, { asQueue: true })).toEqualTypeOf<
        Effect.Effect<
          Queue.Dequeue<string, NotFound | Denied | CallError.CallError | Interrupted | Cause.Done>,
          never,
          Database | Scope.Scope
        >
      >()
      expectTypeOf(streamingClient.Chat(undefined, Stream.make(1))).toEqualTypeOf<
        Stream.Stream<string, NotFound | Denied | CallError.CallError>
      >()
    })
  })

  it("has handlers as effect/rpc types them, which read the items of their client", () => {
    expectTypeOf(Component.items(Upload)).toEqualTypeOf<Effect.Effect<Stream.Stream<string>>>()
    expectTypeOf(Component.items(Chat)).toEqualTypeOf<Effect.Effect<Stream.Stream<number>>>()
    // @ts-expect-error it takes none
    compiles(() => Component.items(Watch))
    const layer = streaming.toLayer({
      Watch: ({ id }) => Stream.make({ id, name: "tea" }),
      Upload: () => Effect.flatMap(Component.items(Upload), Stream.mkString),
      Chat: () => Effect.map(Queue.make<string, NotFound | Cause.Done>(), (queue) => queue),
      Ping: () => Effect.void
    })
    expectTypeOf(Component.handlers(Streaming, layer)).toEqualTypeOf<
      Effect.Effect<HandlerMap.HandlerMap<never>, never, Auth | Cipher | Scope.Scope>
    >()
    compiles(() => {
      // @ts-expect-error its items are of another type
      RpcGroup.make(Watch).toLayer({ Watch: () => Stream.make("tea") })
      // @ts-expect-error it fails with what the method does not
      return RpcGroup.make(Watch).toLayer({ Watch: () => Stream.fail(new Denied()) })
    })
  })

  it("takes its items through middleware, annotations and prefixes", () => {
    const later = Upload.middleware(Auth).annotate(Component.Idempotent, true).prefix("v2.")
    expectTypeOf(Component.items(later)).toEqualTypeOf<Effect.Effect<Stream.Stream<string>>>()
    const prefixed = Component.make("test/Prefixed", RpcGroup.make(Upload).middleware(Auth).prefix("v2."))
    expectTypeOf<Parameters<Component.Client<typeof prefixed>["v2.Upload"]>[0]>().toEqualTypeOf<
      { readonly id: number }
    >()
  })
})
