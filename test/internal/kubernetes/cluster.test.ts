import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, FileSystem, Layer, PlatformError } from "effect"
import { delimiter } from "node:path"
import { findCluster } from "../../../src/internal/kubernetes/cluster.ts"
import { kubeconfig } from "../../Resolver/kubernetesSupport.ts"

/** A machine with these files and variables, and no others. */
const machine = (files: Readonly<Record<string, string>>, variables: Readonly<Record<string, string>> = {}) =>
  Layer.merge(
    ConfigProvider.layer(ConfigProvider.fromEnvRecord({ HOME: "/home/me", ...variables })),
    Layer.succeed(
      FileSystem.FileSystem,
      FileSystem.makeNoop({
        exists: (path) => Effect.succeed(path in files),
        readFileString: (path) => {
          const text = files[path]
          return text !== undefined ? Effect.succeed(text) : Effect.fail(
            PlatformError.systemError({
              _tag: "NotFound",
              module: "FileSystem",
              method: "readFile",
              pathOrDescriptor: path
            })
          )
        }
      })
    )
  )

const mount = "/var/run/secrets/kubernetes.io/serviceaccount"
const podFiles = { [`${mount}/namespace`]: "shop\n", [`${mount}/token`]: "of-the-pod\n", [`${mount}/ca.crt`]: "the CA" }
const podVariables = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" }
const config = (host: string) => kubeconfig({ server: `https://${host}:6443` }, { token: `of-${host}` })

const serverOf = (options: { kubeconfig?: string; context?: string }, on: ReturnType<typeof machine>) =>
  Effect.map(Effect.provide(findCluster(options), on), ({ server }) => server)

const problemOf = (options: { kubeconfig?: string; context?: string }, on: ReturnType<typeof machine>) =>
  Effect.map(Effect.flip(Effect.provide(findCluster(options), on)), ({ message }) => message)

describe("the cluster", () => {
  it.effect("is that of the kubeconfig that was asked for, then that of KUBECONFIG, of the pod, of the home directory", () =>
    Effect.gen(function*() {
      const files = {
        "/asked": config("asked"),
        "/set": config("set"),
        "/home/me/.kube/config": config("home"),
        ...podFiles
      }
      const all = machine(files, { KUBECONFIG: "/set", ...podVariables })
      assert.strictEqual(yield* serverOf({ kubeconfig: "/asked" }, all), "https://asked:6443")
      assert.strictEqual(yield* serverOf({}, all), "https://set:6443")
      assert.strictEqual(
        yield* serverOf({}, machine(files, { KUBECONFIG: "", ...podVariables })),
        "https://10.96.0.1:443"
      )
      // A context is one of a kubeconfig.
      assert.strictEqual(yield* serverOf({ context: "test" }, machine(files, podVariables)), "https://home:6443")
      assert.strictEqual(yield* serverOf({}, machine(files)), "https://home:6443")
    }))

  it.effect("is not that of a KUBECONFIG with no path in it", () =>
    Effect.gen(function*() {
      const variables = { KUBECONFIG: delimiter, ...podVariables }
      assert.strictEqual(yield* serverOf({}, machine(podFiles, variables)), "https://10.96.0.1:443")
    }))

  it.effect("is not known where there is none of them", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* problemOf({}, machine({})),
        "no Kubernetes cluster is known: this is not a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set), " +
          "KUBECONFIG is not set, and there is no /home/me/.kube/config"
      )
      assert.strictEqual(yield* problemOf({ kubeconfig: "/gone" }, machine({})), "there is no kubeconfig file /gone")
      assert.strictEqual(
        yield* problemOf({}, machine({}, { KUBECONFIG: "/a:/b" })),
        "there is no kubeconfig file /a or /b"
      )
    }))

  it.effect("is one that cannot be read, and not one that there is not, where the home directory may not be entered", () =>
    Effect.gen(function*() {
      const denied = () =>
        Effect.fail(PlatformError.systemError({
          _tag: "PermissionDenied",
          module: "FileSystem",
          method: "access",
          pathOrDescriptor: "/home/me/.kube/config"
        }))
      const on = Layer.merge(
        ConfigProvider.layer(ConfigProvider.fromEnvRecord({ HOME: "/home/me" })),
        Layer.succeed(FileSystem.FileSystem, FileSystem.makeNoop({ exists: denied, readFileString: denied }))
      )
      assert.match(yield* problemOf({}, on), /^cannot read \/home\/me\/\.kube\/config: PermissionDenied/)
    }))

  it.effect("of a pod is asked in its namespace, with its token and authority", () =>
    Effect.gen(function*() {
      const cluster = yield* findCluster({})
      assert.strictEqual(cluster.namespace, "shop")
      assert.deepStrictEqual(yield* cluster.credentials, { tls: { ca: "the CA" }, authorization: "Bearer of-the-pod" })
    }).pipe(Effect.provide(machine(podFiles, podVariables))))

  it.effect("of a pod may have an IPv6 address", () =>
    Effect.gen(function*() {
      const variables = { KUBERNETES_SERVICE_HOST: "fd00:10:96::1", KUBERNETES_SERVICE_PORT: "443" }
      assert.strictEqual(yield* serverOf({}, machine(podFiles, variables)), "https://[fd00:10:96::1]:443")
      const wrong = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "https" }
      assert.match(yield* problemOf({}, machine(podFiles, wrong)), /PORT is "https": expected a host and a port$/)
      assert.match(yield* problemOf({}, machine({}, podVariables)), /^cannot read \/var\/run\/.*\/namespace: /)
    }))
})

describe("a kubeconfig", () => {
  const yaml = `
apiVersion: v1
kind: Config
preferences: {}
current-context: kind-shop
contexts:
- context:
    cluster: kind
    user: kind-admin
    namespace: shop
  name: kind-shop
- context: {cluster: kind, user: robot}
  name: robot
- context:
    cluster: kind
    user: ""
  name: anonymous
clusters:
- cluster:
    certificate-authority-data: dGhlIENB
    server: https://127.0.0.1:40123
    extensions:
    - extension:
        provider: minikube.sigs.k8s.io
      name: cluster_info
  name: kind
users:
- name: kind-admin
  user:
    client-certificate-data: dGhlIGNlcnRpZmljYXRl
    client-key-data: dGhlIGtleQ==
- name: robot
  user:
    tokenFile: tokens/robot
`
  const files = { "/etc/kube/config": yaml, "/etc/kube/tokens/robot": "beep\n" }
  const asked = { kubeconfig: "/etc/kube/config" }

  it.effect("as kubectl writes it is read: the current context, or another", () =>
    Effect.gen(function*() {
      const current = yield* findCluster(asked)
      assert.deepStrictEqual([current.server, current.namespace], ["https://127.0.0.1:40123", "shop"])
      assert.deepStrictEqual(yield* current.credentials, {
        tls: { ca: "the CA", cert: "the certificate", key: "the key" },
        authorization: undefined
      })
      const robot = yield* findCluster({ ...asked, context: "robot" })
      assert.strictEqual(robot.namespace, "default")
      assert.deepStrictEqual(yield* robot.credentials, { tls: { ca: "the CA" }, authorization: "Bearer beep" })
      const anonymous = yield* findCluster({ ...asked, context: "anonymous" })
      assert.deepStrictEqual(yield* anonymous.credentials, { tls: { ca: "the CA" }, authorization: undefined })
    }).pipe(Effect.provide(machine(files))))

  it.effect("may be several files, of which the first to say something counts, and some may not exist", () =>
    Effect.gen(function*() {
      const cluster = yield* findCluster({})
      assert.strictEqual(cluster.server, "https://first:6443")
      assert.strictEqual((yield* cluster.credentials).authorization, "Bearer of-first")
      const robot = yield* findCluster({ context: "robot" })
      assert.strictEqual((yield* robot.credentials).authorization, "Bearer beep")
    }).pipe(
      Effect.provide(machine({ ...files, "/first": config("first"), "/empty": "" }, {
        KUBECONFIG: "/gone:/empty:/first:/etc/kube/config"
      }))
    ))

  it.effect("takes an entry from the earlier of two files that have one of its name", () =>
    Effect.gen(function*() {
      const cluster = yield* findCluster({})
      assert.strictEqual(cluster.server, "https://first:6443")
      assert.strictEqual((yield* cluster.credentials).authorization, "Bearer of-first")
    }).pipe(
      Effect.provide(machine({ "/first": config("first"), "/second": config("second") }, {
        KUBECONFIG: "/first:/second"
      }))
    ))

  it.effect("that cannot be read says what is wrong in which file", () =>
    Effect.gen(function*() {
      const problem = (text: string, options: { context?: string } = {}) =>
        problemOf({ kubeconfig: "/config", ...options }, machine({ "/config": text }))
      assert.match(yield* problem("{"), /^\/config is not YAML: /)
      assert.match(yield* problem("clusters: 1"), /^\/config is not a kubeconfig: [^]*\["clusters"\]/)
      assert.strictEqual(yield* problem("kind: Config"), "/config has no current-context: there are none")
      assert.strictEqual(yield* problem(config("a"), { context: "b" }), "/config has no context \"b\": there are test")
      assert.strictEqual(
        yield* problem(config("a").replace("\"there\",\"user\"", "\"here\",\"user\"")),
        "/config has no cluster \"here\" for its context \"test\""
      )
      assert.strictEqual(
        yield* problem(config("a").replace("\"user\":\"me\"", "\"user\":\"you\"")),
        "/config has no user \"you\" for its context \"test\""
      )
      for (const server of ["", "10.0.0.1:6443", "ftp://a", "https://me:secret@a", "https://a?b"]) {
        const message = yield* problem(kubeconfig({ server }))
        assert.match(message, /^the server of the cluster "there" in \/config is ".*": expected an http\(s\) URL$/)
        assert.notInclude(message, "secret")
      }
    }))

  it.effect("has no password in its server, in any notation, and none is printed", () =>
    Effect.gen(function*() {
      for (const server of ["https://:secret@a", "https:me:secret@a", "https:/me:secret@a", "https:///me:secret@a"]) {
        const message = yield* problemOf({ kubeconfig: "/config" }, machine({ "/config": kubeconfig({ server }) }))
        assert.match(message, /^the server of the cluster "there" in \/config is "https:.*…@a": expected/)
        assert.notInclude(message, "secret")
      }
    }))

  it.effect("with what is not supported is refused", () =>
    Effect.gen(function*() {
      const problem = (cluster: object, user: object = {}) =>
        problemOf(
          { kubeconfig: "/config" },
          machine({ "/config": kubeconfig({ server: "https://a", ...cluster }, user) })
        )
      const refused = "the context \"test\" of /config cannot be used: "
      assert.strictEqual(
        yield* problem({}, { exec: { apiVersion: "client.authentication.k8s.io/v1", command: "aws", args: ["eks"] } }),
        `${refused}exec plugins (aws) are not supported; use "kubectl proxy" and a kubeconfig with its address as server`
      )
      assert.include(
        yield* problem({}, { "auth-provider": { name: "oidc" } }),
        `${refused}auth-provider is not supported`
      )
      assert.include(
        yield* problem({}, { username: "me", password: "secret" }),
        `${refused}username and password are not`
      )
      assert.include(yield* problem({}, { as: "admin" }), `${refused}impersonation (as) is not supported`)
      for (const user of [{ token: "secret" }, { tokenFile: "token" }]) {
        assert.strictEqual(
          yield* problem({ server: "http://a" }, user),
          `${refused}its server is not https, but tokens are only sent to servers that prove their identity`
        )
      }
      assert.include(yield* problem({ "proxy-url": "http://proxy" }), `${refused}proxy-url is not supported`)
      assert.include(
        yield* problem({ "insecure-skip-tls-verify": true }),
        `${refused}insecure-skip-tls-verify is set, but credentials are only sent to servers that prove their identity`
      )
    }))

  it.effect("with data that is not base64 is an error of each request", () =>
    Effect.gen(function*() {
      const cluster = yield* findCluster({ kubeconfig: "/config" })
      assert.strictEqual(
        (yield* Effect.flip(cluster.credentials)).message,
        "certificate-authority-data in /config is not base64"
      )
    }).pipe(
      Effect.provide(machine({ "/config": kubeconfig({ server: "https://a", "certificate-authority-data": "%%" }) }))
    ))
})
