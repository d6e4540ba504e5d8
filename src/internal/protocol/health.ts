/**
 * Health on the wire: one method, `effect-call/Health.watch`. Its arguments are one byte and the name of a component in
 * UTF-8, empty for the server as a whole. The byte says which status the caller knows: 0 (not serving), 1 (serving) or
 * 255 (none yet). The answer is one byte, 0 or 1, as soon as the status differs from that.
 *
 * It does not know when a client asks, nor what the client does with an answer.
 */

export const component = "effect-call/Health"
export const method = "watch"

const unknown = 255
const statusOf = (isServing: boolean): number => isServing ? 1 : 0

export interface Question {
  readonly component: string
  /** The status that the caller knows; undefined for none. */
  readonly known: boolean | undefined
}

export const encodeQuestion = ({ component, known }: Question): Uint8Array => {
  const name = new TextEncoder().encode(component)
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
    component: new TextDecoder().decode(bytes.subarray(1)),
    known: known === unknown ? undefined : known === 1
  }
}

export const encodeAnswer = (isServing: boolean): Uint8Array => Uint8Array.of(statusOf(isServing))

/** Whether the component serves; undefined if the bytes are no answer. */
export const decodeAnswer = (bytes: Uint8Array): boolean | undefined =>
  bytes.length === 1 && (bytes[0] === 0 || bytes[0] === 1) ? bytes[0] === 1 : undefined
