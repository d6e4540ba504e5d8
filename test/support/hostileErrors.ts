/** Errors that are hard to look at: what a user's code may throw or fail with, by what is wrong with them. */
import { runInNewContext } from "node:vm"

const thrower = (): never => {
  throw new Error("the session of this object is closed")
}

const withGetter = (name: PropertyKey, error: object = new Error("visible")): unknown =>
  Object.defineProperty(error, name, { get: thrower, enumerable: true, configurable: true })

const revoked = <A extends object>(target: A): A => {
  const { proxy, revoke } = Proxy.revocable(target, {})
  revoke()
  return proxy
}

/** A proxy all of whose traps throw. */
const untouchable = (): unknown => new Proxy(new Error("hidden"), new Proxy({}, { get: () => thrower }))

const circular = (): Error => {
  const error = new Error("around")
  error.cause = new Error("and around", { cause: error })
  return error
}

const endless = (): unknown => {
  const error = new Error("one of many")
  return Object.defineProperty(error, "cause", { get: endless })
}

class LazyTag extends Error {
  get _tag(): string {
    return thrower()
  }
}

class LazyName extends Error {
  override get name(): string {
    return thrower()
  }
}

class LazyMessage extends Error {
  override get message(): string {
    return thrower()
  }
}

/** Each is made again. */
export const hostileErrors: Readonly<Record<string, () => unknown>> = {
  "a tag that throws": () => withGetter("_tag"),
  "a tag of its class that throws": () => new LazyTag("visible"),
  "a tag of an object that throws": () => withGetter("_tag", { message: "visible" }),
  "a name that throws": () => withGetter("name"),
  "a name of its class that throws": () => new LazyName("visible"),
  "a message that throws": () => withGetter("message"),
  // V8 gives each error a message of its own, unless it has none.
  "a message of its class that throws": () => new LazyMessage(),
  "a cause that throws": () => withGetter("cause"),
  "a stack that throws": () => withGetter("stack"),
  "a field that throws": () => withGetter("details"),
  "a text that throws": () => ({ toString: thrower }),
  "a message whose text throws": () => Object.assign(new Error(), { message: { toString: thrower, toJSON: thrower } }),
  "a primitive that throws": () => ({ [Symbol.toPrimitive]: thrower, toString: thrower }),
  "JSON that throws": () => ({ toJSON: thrower }),
  "a type that throws": () => withGetter(Symbol.toStringTag, {}),
  "a revoked proxy": () => revoked(new Error("hidden")),
  "a revoked proxy of a function": () => revoked(() => "hidden"),
  "a proxy whose traps throw": untouchable,
  "a cause that is a revoked proxy": () => new Error("outer", { cause: revoked({}) }),
  "a cause whose name throws": () => new Error("outer", { cause: withGetter("name") }),
  "a name that is undefined": () => Object.assign(new Error("visible"), { name: undefined }),
  "a name that is a number": () => Object.assign(new Error("visible"), { name: 404 }),
  "an empty name": () => Object.assign(new Error("visible"), { name: "" }),
  "a name that is a symbol": () => Object.assign(new Error("visible"), { name: Symbol("name") }),
  "an empty tag": () => ({ _tag: "" }),
  "a tag that is a number": () => ({ _tag: 404 }),
  "a tag of a million characters": () => ({ _tag: "x".repeat(1_000_000) }),
  "a message of a million characters": () => new Error("x".repeat(1_000_000)),
  "a message that is a number": () => Object.assign(new Error(), { message: 404 }),
  "a message that is undefined": () => Object.assign(new Error(), { message: undefined }),
  "a message that is a symbol": () => Object.assign(new Error(), { message: Symbol("message") }),
  "causes that go in a circle": circular,
  "causes without end": endless,
  "an object without a prototype": () => Object.create(null),
  "a function": () => () => "called",
  "a symbol": () => Symbol("failed"),
  "a bigint": () => 10n,
  "undefined": () => undefined,
  "null": () => null,
  "an empty text": () => "",
  "an error of another realm": () => runInNewContext("new TypeError('foreign', { cause: new Error('inner') })"),
  "an error of another realm whose name throws": () => withGetter("name", runInNewContext("new Error('foreign')"))
}
