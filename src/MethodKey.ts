/**
 * What names a method on the wire: 16 bytes made from the component's and the method's name.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import * as Hash from "effect/Hash"
import * as Inspectable from "effect/Inspectable"
import { createHash } from "node:crypto"
import { unexpected } from "./internal/guard.ts"
import { methodName } from "./internal/protocol/methodName.ts"

const TypeId = "~effect-call/MethodKey"

/**
 * Identifies a method of a component: the first 16 bytes of the SHA-256 of `component + "." + method`.
 *
 * Two keys are equal (`Equal.equals`, `HashMap`) where their bytes are, and a key prints as its bytes in hex.
 *
 * Source: `type MethodKey` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface MethodKey extends Equal.Equal, Inspectable.Inspectable {
  readonly [TypeId]: typeof TypeId
  /** The component's name, as given to {@link make}. */
  readonly component: string
  /** The method's name, as given to {@link make}. */
  readonly method: string
  /** The 16 bytes that stand in a request. Do not change them. */
  readonly bytes: Uint8Array
  /** The bytes as 32 lower-case hex digits. */
  readonly hex: string
  /** Whether the method may run more than once for one call; see {@link idempotent}. Equality does not go by it. */
  readonly isIdempotent: boolean
}

const Proto = {
  [TypeId]: TypeId,
  [Equal.symbol](this: MethodKey, that: unknown): boolean {
    return isMethodKey(that) && this.hex === that.hex
  },
  [Hash.symbol](this: MethodKey): number {
    return Hash.string(this.hex)
  },
  toString(this: MethodKey): string {
    return this.hex
  },
  toJSON(this: MethodKey): string {
    return this.hex
  },
  [Inspectable.NodeInspectSymbol](this: MethodKey): string {
    return this.hex
  }
}

/**
 * The key of `method` on `component`. It costs a SHA-256: make it once and keep it, not once a call.
 *
 * The names are joined with a dot, so `make("a.b", "c")` and `make("a", "b.c")` are the same key.
 *
 * **Example**
 *
 * ```ts
 * import { MethodKey } from "effect-call"
 *
 * const key = MethodKey.make("test/Echo", "echo")
 * console.log(String(key)) // 0719f928535659740e3311e40b853a28
 * ```
 *
 * Source: `MakeMethodKey` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (component: string, method: string): MethodKey => {
  if (typeof component !== "string") throw unexpected("the component of a method", "a text", component)
  if (typeof method !== "string") throw unexpected(`the method of ${component}`, "a text", method)
  const digest = createHash("sha256").update(methodName({ component, method }), "utf8").digest()
  return Object.assign(Object.create(Proto), {
    component,
    method,
    bytes: Uint8Array.from(digest.subarray(0, 16)),
    hex: digest.toString("hex", 0, 16),
    isIdempotent: false
  })
}

/**
 * The same key, of a method that is declared idempotent: to run it twice does what to run it once does. A call of it that was lost, of which
 * nobody knows whether it ran, is made again where the call has a `retry`; without that nothing changes.
 *
 * **Example**
 *
 * ```ts
 * import { Schedule } from "effect"
 * import { type Connection, MethodKey } from "effect-call"
 *
 * const get = MethodKey.idempotent(MethodKey.make("example/Cart", "get"))
 *
 * const getCart = (connection: Connection.Connection, id: Uint8Array) =>
 *   connection.call(get, id, { timeout: "1 second", retry: Schedule.exponential("20 millis") })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const idempotent = (key: MethodKey): MethodKey =>
  Object.assign(Object.create(Proto), { ...key, isIdempotent: true })

/**
 * Whether a value is a `MethodKey`.
 *
 * @category guards
 * @since 0.1.0
 */
export const isMethodKey = (u: unknown): u is MethodKey =>
  // Asked of every call: Effect's `hasProperty`, which all kinds of objects go through, took 20 ns.
  typeof u === "object" && u !== null && TypeId in u
