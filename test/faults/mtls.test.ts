/**
 * Certificates that are not right, on either side, and what a client may call by who it is.
 */
import { describe, it, vi } from "@effect/vitest"
import { Effect, Logger } from "effect"
import { type CallError, Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import * as assert from "node:assert/strict"
import { join } from "node:path"
import { type Authority, makeAuthority } from "../../examples/support/certificates.ts"
import { makeLog } from "../support/log.ts"
import { certificates, temporaryDirectory } from "../support/networks.ts"

const orders = MethodKey.make("shop/Orders", "list")
const admin = MethodKey.make("shop/Admin", "stop")
const answer = new Uint8Array([1])

const forAll = HandlerMap.empty.pipe(HandlerMap.set("shop/Orders", "list", () => Effect.succeed(answer)))
const forAdmins = forAll.pipe(HandlerMap.set("shop/Admin", "stop", () => Effect.succeed(answer)))

/** An authority whose certificates, its own too, were valid two days ago. */
const expiredAuthority: Effect.Effect<Authority> = Effect.suspend(() => {
  const past = Date.now() - 48 * 60 * 60 * 1000
  const clock = vi.spyOn(Date, "now").mockReturnValue(past)
  return Effect.ensuring(makeAuthority("Expired CA"), Effect.sync(() => clock.mockRestore()))
})

const below = {
  tcp: Effect.succeed({
    listen: <R>(handlers: Listener.Handlers<R>) => Listener.tcp("127.0.0.1:0", handlers),
    endpoint: (address: string) => Effect.orDie(Endpoint.parse(address))
  }),
  unix: Effect.gen(function*() {
    const path = join(yield* temporaryDirectory, "socket")
    return {
      listen: <R>(handlers: Listener.Handlers<R>) => Listener.unix(path, handlers),
      endpoint: () => Effect.succeed(Endpoint.unix(path))
    }
  })
}

/** Counts the dials of an endpoint. */
const counted = (endpoint: Endpoint.Endpoint) => {
  const counter = { dials: 0 }
  const dial = Effect.suspend(() => {
    counter.dials++
    return endpoint.dial
  })
  return { counter, endpoint: { address: endpoint.address, dial } }
}

/** A server that is Node's does not say why it refuses a client: it closes the connection. Others send an alert. */
const refused = /closed the connection before its version message \(it may have refused this client's certificate|alert/

const quiet = Logger.layer([])

for (const kind of ["tcp", "unix"] as const) {
  const serve = Effect.fnUntraced(
    function*(tls: Parameters<typeof Listener.mtls>[0], handlers: Listener.Handlers<never> = forAll) {
      const { endpoint, listen } = yield* below[kind]
      const listener = yield* Listener.mtls(tls, yield* listen(handlers))
      yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }), { startImmediately: true })
      return yield* endpoint(listener.address)
    }
  )

  const connectWith = Effect.fnUntraced(function*(
    endpoint: Endpoint.Endpoint,
    tls: Parameters<typeof Endpoint.mtls>[0]
  ) {
    const { counter, endpoint: secured } = counted(Endpoint.mtls(tls, endpoint))
    const connection = yield* Connection.make(Resolver.constant(secured), { backoff: { initial: "1 minute" } })
    return { connection, counter, address: secured.address }
  })

  /**
   * Runs an effect, and checks that the server's log says why it refused a client, which does not know it and dials
   * twice.
   */
  const loggedTwice = <A, E, R>(reason: RegExp, effect: Effect.Effect<A, E, R>) => {
    const log = makeLog()
    return Effect.andThen(
      Effect.provide(effect, log.layer),
      Effect.sync(() => {
        // The client's lines name the endpoint.
        const lines = log.lines.filter(({ annotations }) => !("endpoint" in annotations)).map(({ message }) => message)
        assert.equal(lines.length, 2, lines.join("\n"))
        for (const line of lines) assert.match(line, reason)
      })
    )
  }

  /**
   * Calls once: it is Unreachable, and says why; and again and again: it is still, at once, and nothing is dialed. A
   * server that closes the connection without a word may be one that goes away, so that it is dialed twice.
   */
  const isUnreachable = Effect.fnUntraced(function*(
    endpoint: Endpoint.Endpoint,
    tls: Parameters<typeof Endpoint.mtls>[0],
    reason: RegExp,
    dials = reason === refused ? 2 : 1
  ) {
    const { address, connection, counter } = yield* connectWith(endpoint, tls)
    const errors: Array<CallError.CallError> = []
    for (let i = 0; i < 20; i++) errors.push(yield* Effect.flip(connection.call(orders, new Uint8Array())))
    for (const error of errors) {
      assert.ok(error._tag === "Unreachable", `${error._tag}: ${error.message}`)
      assert.deepEqual(error.attempts.map(({ endpoint }) => endpoint), [address])
      assert.match(error.message, reason)
    }
    assert.equal(counter.dials, dials)
    const { endpoints } = yield* connection.state
    assert.equal(endpoints[0]!.inBackoff, true)
    assert.match(endpoints[0]!.lastFailure!, reason)
  })

  describe(`mTLS over ${kind}`, () => {
    it.live("a client of another authority is Unreachable, and backs off", () =>
      loggedTwice(
        /UNABLE_TO_VERIFY_LEAF_SIGNATURE/,
        Effect.gen(function*() {
          const { ca, server } = yield* certificates
          const endpoint = yield* serve({ ca, ...server })
          const foreign = yield* makeAuthority("Foreign CA")
          const client = yield* foreign.client({ commonName: "client" })
          yield* isUnreachable(endpoint, { ca, ...client, servername: "localhost" }, refused)
        }).pipe(Effect.scoped)
      ))

    it.live("a client whose certificate has expired is Unreachable, and backs off", () =>
      loggedTwice(
        /CERT_HAS_EXPIRED/,
        Effect.gen(function*() {
          const { ca, server } = yield* certificates
          const expired = yield* expiredAuthority
          const endpoint = yield* serve({ ca: [ca, expired.ca], ...server })
          const client = yield* expired.client({ commonName: "client" })
          yield* isUnreachable(endpoint, { ca, ...client, servername: "localhost" }, refused)
        }).pipe(Effect.scoped)
      ))

    it.live("a client without a certificate is Unreachable before anything is dialed below, with an error that says what is missing", () =>
      Effect.gen(function*() {
        const { ca, server } = yield* certificates
        const { counter, endpoint } = counted(yield* serve({ ca, ...server }))
        yield* isUnreachable(endpoint, { ca, servername: "localhost" }, /the client has no certificate/)
        assert.equal(counter.dials, 0)
      }).pipe(Effect.scoped))

    it.live("a client with a server's certificate is Unreachable", () =>
      loggedTwice(
        /INVALID_PURPOSE/,
        Effect.gen(function*() {
          const { ca, server } = yield* certificates
          const endpoint = yield* serve({ ca, ...server })
          yield* isUnreachable(endpoint, { ca, ...server, servername: "localhost" }, refused)
        }).pipe(Effect.scoped)
      ))

    it.live("a client that was refused is served when it comes with the right certificate", () =>
      Effect.gen(function*() {
        const { ca, client, server } = yield* certificates
        const endpoint = yield* serve({ ca, ...server })
        const foreign = yield* makeAuthority("Foreign CA")
        let tls = { ca, ...(yield* foreign.client({ commonName: "client" })), servername: "localhost" }
        const renewed = Endpoint.mtls(Effect.sync(() => tls), endpoint)
        const connection = yield* Connection.make(Resolver.constant(renewed), { backoff: { initial: 5 } })
        assert.equal((yield* Effect.flip(connection.call(orders, new Uint8Array())))._tag, "Unreachable")
        tls = { ca, ...client, servername: "localhost" }
        assert.deepEqual(yield* connection.call(orders, new Uint8Array(), { waitForReady: true }), answer)
      }).pipe(Effect.scoped, Effect.provide(quiet)))

    it.live("a server whose certificate is for another name is Unreachable, with the reason", () =>
      Effect.gen(function*() {
        const { ca, client, server } = yield* certificates
        const endpoint = yield* serve({ ca, ...server })
        yield* isUnreachable(endpoint, { ca, ...client, servername: "orders.internal" }, /orders\.internal.*altnames/)
      }).pipe(Effect.scoped, Effect.provide(quiet)))

    it.live("a server of another authority, an expired one, and one with a client's certificate are Unreachable, with the reason", () =>
      Effect.gen(function*() {
        const { ca, client } = yield* certificates
        const foreign = yield* makeAuthority("Foreign CA")
        const expired = yield* expiredAuthority
        yield* isUnreachable(
          yield* serve({ ca, ...(yield* foreign.server()) }),
          { ca, ...client, servername: "localhost" },
          /unable to verify the first certificate|self-signed|unable to get local issuer/
        )
        yield* isUnreachable(
          yield* serve({ ca, ...(yield* expired.server()) }),
          { ca: [ca, expired.ca], ...client, servername: "localhost" },
          /certificate has expired/
        )
        yield* isUnreachable(
          yield* serve({ ca, ...client }),
          { ca, ...client, servername: "localhost" },
          /unsuitable certificate purpose/
        )
      }).pipe(Effect.scoped, Effect.provide(quiet)))

    it.live("a peer may call the components of the identity that it has, and other methods are unknown to it", () =>
      Effect.gen(function*() {
        const authority = yield* makeAuthority()
        const { ca } = authority
        const endpoint = yield* serve(
          { ca, ...(yield* authority.server()) },
          ({ certificate }) => certificate?.subject.CN === "admin" ? forAdmins : forAll
        )
        const callAs = Effect.fnUntraced(function*(commonName: string) {
          const tls = { ca, ...(yield* authority.client({ commonName })), servername: "localhost" }
          const { connection } = yield* connectWith(endpoint, tls)
          return (key: MethodKey.MethodKey) => connection.call(key, new Uint8Array())
        })
        const callAsAdmin = yield* callAs("admin")
        const callAsShop = yield* callAs("shop")
        assert.deepEqual(yield* callAsAdmin(admin), answer)
        assert.deepEqual(yield* callAsAdmin(orders), answer)
        assert.deepEqual(yield* callAsShop(orders), answer)
        const error = yield* Effect.flip(callAsShop(admin))
        assert.ok(error._tag === "RemoteError" && error.isUnknownMethod, error.message)
        // In either order, each on its own connection.
        assert.deepEqual(yield* callAsAdmin(admin), answer)
      }).pipe(Effect.scoped))
  })
}
