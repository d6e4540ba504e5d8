/**
 * `Resolver.kubernetes` and who asks whom: TLS, client certificates, tokens that are replaced, and what the API
 * refuses.
 */
import { assert, describe, it, vi } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { Resolver } from "effect-call"
import { Buffer } from "node:buffer"
import type { TLSSocket } from "node:tls"
import { makeAuthority } from "../../../examples/support/certificates.ts"
import { type Answer, type ApiRequest, makeKubernetesApi, sendJson } from "../../../examples/support/kubernetesApi.ts"
import {
  addresses,
  directory,
  environment,
  followCart,
  kubeconfig,
  passing,
  ready,
  recorded,
  slice
} from "../../Resolver/kubernetesSupport.ts"

const base64 = (text: string) => Buffer.from(text).toString("base64")

/** An API with TLS that wants a token, or a client's certificate where there is one. */
const secured = Effect.fnUntraced(function*(expected: { token: string }) {
  const authority = yield* makeAuthority()
  const { cert, key } = yield* authority.server()
  const refuse = ({ authorization, socket }: ApiRequest) =>
    (socket as TLSSocket).authorized || authorization === `Bearer ${expected.token}` ? undefined : 401
  const tls = { cert, key, ca: authority.ca, requestCert: true, rejectUnauthorized: false }
  const api = yield* makeKubernetesApi({ tls, refuse })
  api.put(slice("cart-a", [ready("10.0.0.1")]))
  return { api, authority }
})

const tokens = (api: { readonly requests: ReadonlyArray<ApiRequest> }) =>
  api.requests.map(({ authorization }) => authorization)

describe("a kubeconfig", () => {
  it.effect("names the authority to trust, in a file or in itself, and a token", () =>
    Effect.gen(function*() {
      const { api, authority } = yield* secured({ token: "secret" })
      const { write } = yield* directory
      yield* write("ca.pem", authority.ca)
      for (
        const trust of [{ "certificate-authority": "ca.pem" }, { "certificate-authority-data": base64(authority.ca) }]
      ) {
        const path = yield* write("config", kubeconfig({ server: api.url, ...trust }, { token: "secret" }))
        const resolver = yield* Resolver.kubernetes({ service: "cart", kubeconfig: path })
        assert.deepStrictEqual(addresses(yield* resolver.resolve()), ["10.0.0.1:7000"])
      }
      assert.deepStrictEqual(new Set(tokens(api)), new Set(["Bearer secret"]))
    }).pipe(Effect.provide(environment())))

  it.effect("names a client's certificate and key", () =>
    Effect.gen(function*() {
      const { api, authority } = yield* secured({ token: "secret" })
      const client = yield* authority.client({ commonName: "me" })
      const { write } = yield* directory
      yield* write("me.pem", client.cert)
      yield* write("me-key.pem", client.key)
      for (
        const user of [
          { "client-certificate": "me.pem", "client-key": "me-key.pem" },
          { "client-certificate-data": base64(client.cert), "client-key-data": base64(client.key) }
        ]
      ) {
        const cluster = { server: api.url, "certificate-authority-data": base64(authority.ca) }
        const path = yield* write("config", kubeconfig(cluster, user))
        const resolver = yield* Resolver.kubernetes({ service: "cart", kubeconfig: path })
        assert.deepStrictEqual(addresses(yield* resolver.resolve()), ["10.0.0.1:7000"])
      }
    }).pipe(Effect.provide(environment())))

  it.effect("has an error of TLS told, with the URL", () =>
    Effect.gen(function*() {
      const { api, authority } = yield* secured({ token: "secret" })
      const other = yield* makeAuthority()
      const cluster = (ca: string, more: object = {}) => ({
        server: api.url,
        "certificate-authority-data": base64(ca),
        ...more
      })
      const message = Effect.fnUntraced(function*(cluster: object, user: object = {}) {
        const resolver = yield* followCart(cluster, user)
        return (yield* Effect.flip(resolver.resolve())).message
      }, Effect.scoped)
      assert.match(
        yield* message(cluster(other.ca)),
        /^cannot list .*\(GET https:\/\/127\.0\.0\.1:\d+\/apis\/.*\): (self-signed certificate in certificate chain|unable to verify the first certificate)/
      )
      assert.match(
        yield* message({ server: api.url }),
        /: (self-signed certificate in certificate chain|unable to verify the first certificate)/
      )
      assert.match(
        yield* message(cluster(authority.ca, { "tls-server-name": "kubernetes.default" })),
        /Hostname\/IP does not match certificate's altnames/
      )
      const wrong = base64("not a certificate")
      assert.match(
        yield* message(cluster(authority.ca), { "client-certificate-data": wrong, "client-key-data": wrong }),
        /^cannot list .*: .*PEM/
      )
      assert.match(
        yield* message(cluster(authority.ca), { "client-certificate": "gone.pem" }),
        /: cannot read .*gone\.pem/
      )
      const path = yield* Effect.flatMap(directory, ({ write }) => write("empty.pem", ""))
      assert.match(yield* message({ server: api.url, "certificate-authority": path }), /: ca is empty$/)
      assert.strictEqual(api.requests.length, 0)
      // The name that is asked for in place of the host's.
      const named = yield* followCart(cluster(authority.ca, { "tls-server-name": "localhost" }), { token: "secret" })
      assert.deepStrictEqual(addresses(yield* named.resolve()), ["10.0.0.1:7000"])
    }).pipe(Effect.provide(environment())))

  it.effect("has its authority asked for even where the environment tells Node to trust everyone", () =>
    Effect.gen(function*() {
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          vi.stubEnv("NODE_TLS_REJECT_UNAUTHORIZED", "0")
          // Node warns of it, once in each process.
          return vi.spyOn(process, "emitWarning").mockImplementation(() => {})
        }),
        (warning) =>
          Effect.sync(() => {
            vi.unstubAllEnvs()
            warning.mockRestore()
          })
      )
      const { api } = yield* secured({ token: "secret" })
      const resolver = yield* followCart({ server: api.url }, { token: "secret" })
      assert.match((yield* Effect.flip(resolver.resolve())).message, /certificate/)
      assert.deepStrictEqual(tokens(api), [])
    }).pipe(Effect.provide(environment())))

  it.effect("names a token's file, which is read at each request", () =>
    Effect.gen(function*() {
      const expected = { token: "first" }
      const { api, authority } = yield* secured(expected)
      const { write } = yield* directory
      yield* write("token", "first\n")
      const cluster = { server: api.url, "certificate-authority-data": base64(authority.ca) }
      const path = yield* write("config", kubeconfig(cluster, { tokenFile: "token", token: "other" }))
      yield* Resolver.kubernetes({ service: "cart", kubeconfig: path })
      yield* api.watched
      yield* write("token", "second\n")
      expected.token = "second"
      api.end()
      yield* passing(api.received(3))
      assert.deepStrictEqual(tokens(api), ["Bearer first", "Bearer first", "Bearer second"])
      yield* api.watched
    }).pipe(Effect.provide(environment())))
})

/** The files of a pod, which are elsewhere in a test. */
const pod = Effect.fnUntraced(function*(files: Readonly<Record<string, string>>) {
  const fs = yield* FileSystem.FileSystem
  const { path, write } = yield* directory
  for (const [name, text] of Object.entries(files)) yield* write(name, text)
  const moved: FileSystem.FileSystem = {
    ...fs,
    readFileString: (file, encoding) =>
      fs.readFileString(file.replace("/var/run/secrets/kubernetes.io/serviceaccount", path), encoding)
  }
  return { write, provide: Effect.provideService(FileSystem.FileSystem, moved) }
})

const podEnvironment = (url: string) => {
  const { hostname, port } = new URL(url)
  return environment({ KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port })
}

describe("a pod", () => {
  it.effect("asks its own cluster, in its own namespace, with the token that it has been given last", () =>
    Effect.gen(function*() {
      const expected = { token: "first" }
      const { api, authority } = yield* secured(expected)
      const { provide, write } = yield* pod({ "ca.crt": authority.ca, namespace: "shop\n", token: "first" })
      const resolver = yield* Resolver.kubernetes({ service: "cart" }).pipe(
        provide,
        Effect.provide(podEnvironment(api.url))
      )
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), ["10.0.0.1:7000"])
      yield* api.watched
      expected.token = "second"
      yield* write("token", "second")
      api.cut()
      yield* passing(api.received(3))
      yield* api.watched
      assert.deepStrictEqual(tokens(api), ["Bearer first", "Bearer first", "Bearer second"])
      assert.deepStrictEqual(new Set(api.requests.map(({ namespace }) => namespace)), new Set(["shop"]))
    }).pipe(Effect.provide(environment())))

  it.effect("has a token replaced between two attempts of one request", () =>
    Effect.gen(function*() {
      const { api, authority } = yield* secured({ token: "second" })
      const { provide, write } = yield* pod({ "ca.crt": authority.ca, namespace: "shop", token: "first" })
      api.answer((_, response) => {
        // Before the answer is there, the file is.
        Effect.runFork(Effect.andThen(
          write("token", "second"),
          Effect.sync(() => sendJson(response, 401, JSON.parse(recorded("status-401.json"))))
        ))
      })
      const resolver = yield* Resolver.kubernetes({ service: "cart" }).pipe(
        provide,
        Effect.provide(podEnvironment(api.url))
      )
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), ["10.0.0.1:7000"])
      assert.deepStrictEqual(tokens(api).slice(0, 2), ["Bearer first", "Bearer second"])
    }).pipe(Effect.provide(environment())))

  it.effect("is told that the cluster does not know it, and goes on asking", () =>
    Effect.gen(function*() {
      const expected = { token: "other" }
      const { api, authority } = yield* secured(expected)
      const { provide } = yield* pod({ "ca.crt": authority.ca, namespace: "shop", token: "mine" })
      const resolver = yield* Resolver.kubernetes({ service: "cart" }).pipe(
        provide,
        Effect.provide(podEnvironment(api.url))
      )
      const { message } = yield* Effect.flip(resolver.resolve())
      assert.match(
        message,
        /: 401 Unauthorized: Unauthorized; the cluster does not know the service account of this pod \(its token is in \/var\/run\/secrets\/kubernetes\.io\/serviceaccount\/token\)$/
      )
      assert.notInclude(message, "mine")
      expected.token = "mine"
      yield* passing(api.watched)
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), ["10.0.0.1:7000"])
    }).pipe(Effect.provide(environment())))

  it.effect("without a token, or with an empty one, sends no request", () =>
    Effect.gen(function*() {
      const { api, authority } = yield* secured({ token: "first" })
      for (
        const [files, expected] of [
          [{ "ca.crt": authority.ca, namespace: "shop" }, /: cannot read \/var\/run\/.*\/serviceaccount\/token: /],
          [{ "ca.crt": authority.ca, namespace: "shop", token: "\n" }, /: \/var\/run\/.*\/token has no token$/]
        ] as const
      ) {
        const { provide } = yield* pod(files)
        const resolver = yield* Resolver.kubernetes({ service: "cart" }).pipe(
          provide,
          Effect.provide(podEnvironment(api.url))
        )
        assert.match((yield* Effect.flip(resolver.resolve())).message, expected)
      }
      assert.strictEqual(api.requests.length, 0)
    }).pipe(Effect.provide(environment())))
})

describe("what a Role does not allow", () => {
  const forbidden = (verb: "list" | "watch"): Answer => (_, response) =>
    sendJson(response, 403, JSON.parse(recorded(`status-403-${verb}.json`)))

  it.effect("is named with the verb, the resource and the namespace", () =>
    Effect.gen(function*() {
      const api = yield* makeKubernetesApi()
      api.answer(forbidden("list"))
      const resolver = yield* followCart({ server: api.url })
      const { message } = yield* Effect.flip(resolver.resolve())
      assert.match(
        message,
        /: 403 Forbidden: endpointslices\.discovery\.k8s\.io is forbidden: User "system:serviceaccount:shop:front" cannot list resource "endpointslices" in API group "discovery\.k8s\.io" in the namespace "shop"; a Role in the namespace shop has to allow the user "me" of .*config the verb "list" on the resource "endpointslices" of the API group "discovery\.k8s\.io"$/
      )
    }).pipe(Effect.provide(environment())))

  it.effect("may be to watch: then the list is asked for now and then", () =>
    Effect.gen(function*() {
      const api = yield* makeKubernetesApi()
      api.put(slice("cart-a", [ready("10.0.0.1")]))
      const list: Answer = (_, response) =>
        sendJson(response, 200, { metadata: { resourceVersion: "1001" }, items: [] })
      api.answer(list, forbidden("watch"))
      const resolver = yield* followCart({ server: api.url })
      const none = yield* resolver.resolve()
      assert.deepStrictEqual(addresses(none), [])
      const { message } = yield* Effect.flip(resolver.resolve(none.version))
      assert.match(message, /^cannot watch .*has to allow .* the verb "watch" on the resource "endpointslices"/)
      assert.deepStrictEqual(addresses(yield* passing(resolver.resolve(none.version))), ["10.0.0.1:7000"])
    }).pipe(Effect.provide(environment())))
})
