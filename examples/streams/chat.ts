/**
 * A chat: each client sends what it says, and gets what all say, on one stream both ways.
 *
 * Run it with `npx node examples/streams/chat.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { type Cause, Console, Deferred, Effect, Fiber, PubSub, Queue, Schema, Stream } from "effect"
import { Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

const Join = Rpc.make("Join", { payload: { name: Schema.String }, success: Schema.String, stream: true }).pipe(
  Component.accepts(Schema.String)
)
const Chat = Component.make("example/Chat", RpcGroup.make(Join))

const ChatHandlers = Chat.group.toLayer(Effect.gen(function*() {
  // For a client that does not keep up, the oldest messages are dropped. Others are not delayed.
  const room = yield* PubSub.sliding<string>(1000)
  return {
    Join: ({ name }) =>
      Stream.unwrap(Effect.gen(function*() {
        const says = yield* Component.items(Join)
        const heard = yield* PubSub.subscribe(room)
        yield* PubSub.publish(room, `${name} joins`)
        // In the Scope of this stream: when its client is gone, it is interrupted.
        yield* says.pipe(
          Stream.runForEach((text) => PubSub.publish(room, `${name}: ${text}`)),
          Effect.andThen(PubSub.publish(room, `${name} leaves`)),
          Effect.forkScoped
        )
        return Stream.takeUntil(Stream.fromSubscription(heard), (line) => line === `${name} leaves`)
      }))
  }
}))

const ChatServer = Server.layer(
  Effect.flatMap(Component.handlers(Chat, ChatHandlers), (handlers) => Listener.tcp("127.0.0.1:0", handlers))
)

/** A client that answers what it hears, and leaves where the answer is "". It ends with all that it has heard. */
const person = Effect.fnUntraced(function*(name: string, answers: Readonly<Record<string, string>>) {
  const { address } = yield* Server.Server
  const connection = yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
  const chat = yield* Effect.provideService(Component.client(Chat), Connection.Connection, connection)
  const hasJoined = yield* Deferred.make<void>()
  const says = yield* Queue.unbounded<string, Cause.Done>()
  const heard = chat.Join({ name }, Stream.fromQueue(says)).pipe(
    Stream.tap((line) => {
      const answer = answers[line]
      if (line === `${name} joins`) return Deferred.succeed(hasJoined, undefined)
      if (answer === undefined) return Effect.void
      return answer === "" ? Queue.end(says) : Queue.offer(says, answer)
    }),
    Stream.runCollect
  )
  const fiber = yield* Effect.forkChild(heard)
  yield* Effect.raceFirst(Deferred.await(hasJoined), Fiber.join(fiber))
  return fiber
})

const program = Effect.gen(function*() {
  const ada = yield* person("Ada", { "Linus joins": "who is here?", "Linus: me, too": "" })
  const grace = yield* person("Grace", { "Ada: who is here?": "me", "Ada leaves": "" })
  const linus = yield* person("Linus", { "Grace: me": "me, too", "Grace leaves": "" })
  yield* Console.log(`Ada:   ${(yield* Fiber.join(ada)).join(", ")}`)
  yield* Console.log(`Grace: ${(yield* Fiber.join(grace)).join(", ")}`)
  yield* Console.log(`Linus: ${(yield* Fiber.join(linus)).join(", ")}`)
})

program.pipe(
  Connection.withOptions({ timeout: "20 seconds" }),
  Effect.scoped,
  Effect.provide(ChatServer),
  NodeRuntime.runMain
)
