/**
 * Health on the wire: a status is one byte, 0 (not serving) or 1 (serving); a component is its name in UTF-8, empty for
 * the server as a whole.
 *
 * `effect-call/Health.changes` is a stream. Its arguments are a component; its items are the status now, and then each
 * other one. `effect-call/Health.watch` is a method, for clients and servers that do not know streams. Its arguments
 * are a byte and a component. The byte is the status that the caller knows, or 255 for none yet. The answer is the
 * status, as soon as it differs from that.
 *
 * It does not know when a client asks, nor what the client does with an answer.
 */

export const component = "effect-call/Health"
export const method = "watch"
export const streamMethod = "changes"

const unknown = 255
const statusOf = (isServing: boolean): number => isServing ? 1 : 0

export interface Question {
  readonly component: string
  /** The status that the caller knows; undefined for none. */
  readonly known: boolean | undefined
}

export const encodeComponent = (component: string): Uint8Array => new TextEncoder().encode(component)

export const decodeComponent = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

export const encodeQuestion = ({ component, known }: Question): Uint8Array => {
  const name = encodeComponent(component)
  const bytes = new Uint8Array(1 + name.length)
  bytes[0] = known === undefined ? unknown : statusOf(known)
  bytes.set(name, 1)
  return bytes
}

/** The question, or the problem with the bytes. */
export const decodeQuestion = (bytes: Uint8Array): Question | string => {
  const known = bytes[0]
  if (known !== 0 && known !== 1 && known !== unknown) {
    return `the first byte of a question for health is ${known ?? "missing"}, expected 0, 1 or 255`
  }
  return {
    component: decodeComponent(bytes.subarray(1)),
    known: known === unknown ? undefined : known === 1
  }
}

export const encodeAnswer = (isServing: boolean): Uint8Array => Uint8Array.of(statusOf(isServing))

/** Whether the component serves; undefined if the bytes are no answer. */
export const decodeAnswer = (bytes: Uint8Array): boolean | undefined =>
  bytes.length === 1 && (bytes[0] === 0 || bytes[0] === 1) ? bytes[0] === 1 : undefined
