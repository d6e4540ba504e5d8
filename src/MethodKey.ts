/**
 * The name of a method on the wire: 16 bytes made from the names of the component and the method. Calls of bytes need
 * one; a `Component` makes its own. This module does not know the rest of a request.
 *
 * @module
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
 * **Details**
 *
 * Two keys are equal (`Equal.equals`, `HashMap`) if their bytes are equal. A key prints as its bytes in hex.
 *
 * Source: `type MethodKey` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface MethodKey extends Equal.Equal, Inspectable.Inspectable {
  /** Marks keys of methods. */
  readonly [TypeId]: typeof TypeId
  /** The component's name, as given to {@link make}. */
  readonly component: string
  /** The method's name, as given to {@link make}. */
  readonly method: string
  /** The 16 bytes that a request carries. Do not change them. */
  readonly bytes: Uint8Array
  /** The bytes as 32 lower-case hex digits. */
  readonly hex: string
  /** Whether the method may run more than once for one call; see {@link idempotent}. Equality of keys ignores it. */
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
 * Makes the key of `method` on `component`.
 *
 * **Gotchas**
 *
 * It computes a SHA-256: make a key once and keep it. The names are joined with a dot, so `make("a.b", "c")` and
 * `make("a", "b.c")` are the same key.
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
 * The same key, for a method that is declared idempotent: to run it twice has the same effect as to run it once.
 *
 * **Details**
 *
 * If a call of it is lost after its handler may have run, the call is made again, provided that it has a `retry`.
 * Without a `retry` nothing changes.
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
  // It runs on every call: Effect's `hasProperty` is called with objects of all kinds, so it is megamorphic and took 20
  // ns.
  typeof u === "object" && u !== null && TypeId in u
