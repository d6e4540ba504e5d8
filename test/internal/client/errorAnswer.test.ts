import { describe, it } from "@effect/vitest"
import { MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import { readErrorAnswer } from "../../../src/internal/client/errorAnswer.ts"
import { encodeErrorChain, type ErrorChain } from "../../../src/internal/protocol/errorChain.ts"
import * as Identities from "../../../src/internal/protocol/identities.ts"

const read = (...chain: ErrorChain) =>
  readErrorAnswer(encodeErrorChain(chain), MethodKey.make("test/Echo", "echo"), "tcp://a")

const own = { message: "wrapped", identity: "an error of a handler" }

describe("an answer that is an error", () => {
  it("is the handler's, with its chain", () => {
    const { _tag, error } = read(own)
    assert.ok(_tag === "Failed" && error._tag === "RemoteError")
    assert.deepEqual(error.chain, [own])
  })

  it("says that the server's own time was up, or that of a server that the handler called", () => {
    const direct = read(Identities.deadlineExceeded)
    const wrapped = read(own, Identities.deadlineExceeded)
    assert.ok(direct._tag === "TimeUp" && wrapped._tag === "TimeUp")
    assert.deepEqual([direct.isOwn, wrapped.isOwn], [true, false])
  })

  it("says that contracts differ only where the server says so itself", () => {
    assert.equal(read(Identities.contractDiffers)._tag, "ContractDiffers")
    assert.equal(read(own, Identities.contractDiffers)._tag, "Failed")
  })

  it("says that the arguments are too large, and that no handler has seen them", () => {
    const { _tag, error } = read(Identities.argumentsTooLarge(10, 5))
    assert.ok(_tag === "Failed" && error._tag === "CommunicationError")
    assert.deepEqual([error.reason._tag, error.maybeExecuted, error.endpoint], ["TooLarge", false, "tcp://a"])
  })

  it("says that the answer is too large, which a handler has given", () => {
    const { _tag, error } = read(Identities.answerTooLarge("too large"))
    assert.ok(_tag === "Failed" && error._tag === "CommunicationError")
    assert.deepEqual([error.reason._tag, error.maybeExecuted, error.message], ["TooLarge", true, "too large"])
  })

  it("cannot be read: that is a violation of the protocol", () => {
    const key = MethodKey.make("test/Echo", "echo")
    const { _tag, error } = readErrorAnswer(Uint8Array.of(1, 2, 3), key, "tcp://a")
    assert.ok(_tag === "Failed" && error._tag === "CommunicationError")
    assert.match(error.message, /cannot decode the error of test\/Echo.echo/)
    assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Protocol", true])
  })
})
