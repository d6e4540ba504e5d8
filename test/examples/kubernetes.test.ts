import { describe, it } from "@effect/vitest"
import * as Yaml from "effect/encoding/Yaml"
import * as assert from "node:assert/strict"
import { existsSync, readFileSync } from "node:fs"

const root = new URL("../../", import.meta.url)

/** What is somewhere in an object. */
const at = (value: unknown, path: string): unknown =>
  path.split(".").reduce((inner, key) => Reflect.get(Object(inner), key), value)

/** The manifest's objects, by kind and name. */
const objects = new Map(
  readFileSync(new URL("examples/deployment/kubernetes.yaml", root), "utf8").split(/^---$/m).map((text) => {
    const object = Yaml.parse(text)
    return [`${String(at(object, "kind"))} ${String(at(object, "metadata.name"))}`, object]
  })
)

const has = (object: string, path: string, expected: unknown) => {
  assert.deepEqual(at(objects.get(object), path), expected)
}

describe("the manifest of the example", () => {
  it("lets the client list and watch EndpointSlices, and nothing else", () => {
    has("Role endpoints-reader", "rules", [
      { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] }
    ])
    const binding = "RoleBinding front-reads-endpoints"
    has(binding, "roleRef", { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "endpoints-reader" })
    has(binding, "subjects", [{ kind: "ServiceAccount", name: "front", namespace: "shop" }])
    has("ServiceAccount front", "metadata.namespace", "shop")
    has("Deployment front", "spec.template.spec.serviceAccountName", "front")
  })

  it("selects the pods of the server, by a port that they have", () => {
    const cart = "Deployment cart"
    has(cart, "spec.template.metadata.labels", { app: "cart" })
    has("Service cart", "spec.selector", { app: "cart" })
    has("Service cart", "spec.ports.0", { name: "calls", port: 7000, targetPort: "calls" })
    has(cart, "spec.template.spec.containers.0.ports.0", { name: "calls", containerPort: 7000 })
    has(cart, "spec.template.spec.containers.0.readinessProbe.tcpSocket.port", "calls")
  })

  it("runs programs that there are", () => {
    for (const name of ["cart", "front"]) {
      const program = at(objects.get(`Deployment ${name}`), "spec.template.spec.containers.0.command.1")
      assert.ok(existsSync(new URL(String(program), root)))
    }
  })
})
