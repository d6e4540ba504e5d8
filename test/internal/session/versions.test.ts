import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import {
  encodeVersion,
  flagAreYouThere,
  flagGoingAway,
  flagNoMoreRequests,
  flagUnderstood
} from "../../../src/internal/protocol/version.ts"
import { ClientVersions, ServerVersions } from "../../../src/internal/session/versions.ts"

const plain = encodeVersion(0)
const withFlags = (flags: number) => encodeVersion(0, flags)

describe("what a client knows of its server", () => {
  it("is ready with the first version message, and only once", () => {
    const versions = new ClientVersions()
    assert.deepEqual([versions.state, versions.isReady], ["Awaited", false])
    assert.deepEqual(versions.receive(0, plain), { _tag: "Ready", isQuestion: false })
    assert.deepEqual(versions.receive(0, plain), { _tag: "Nothing", isQuestion: false })
    assert.equal(versions.isReady, true)
  })

  it("hears once that the server goes away", () => {
    const versions = new ClientVersions()
    versions.receive(0, withFlags(flagUnderstood))
    const leaves = withFlags(flagUnderstood | flagGoingAway)
    assert.deepEqual(versions.receive(0, leaves), { _tag: "GoingAway", isQuestion: false })
    assert.deepEqual(versions.receive(0, leaves), { _tag: "Nothing", isQuestion: false })
    assert.deepEqual([versions.state, versions.isReady], ["GoingAway", true])
  })

  it("treats a server that goes away at once as one that was never ready", () => {
    const versions = new ClientVersions()
    assert.equal(versions.receive(0, withFlags(flagUnderstood | flagGoingAway))._tag, "CutShort")
    assert.equal(versions.isReady, false)
  })

  it("treats a connection that ends without a reason as cut short only before it was ready", () => {
    const [early, late] = [new ClientVersions(), new ClientVersions()]
    early.endedWithoutReason()
    late.receive(0, plain)
    late.endedWithoutReason()
    assert.deepEqual([early.state, late.state], ["CutShort", "Ready"])
  })

  it("hears a question in any version message", () => {
    const versions = new ClientVersions()
    const question = withFlags(flagUnderstood | flagAreYouThere)
    assert.deepEqual(versions.receive(0, question), { _tag: "Ready", isQuestion: true })
    assert.deepEqual(versions.receive(0, question), { _tag: "Nothing", isQuestion: true })
  })

  it("ignores what follows the version of a server that does not understand flags", () => {
    const versions = new ClientVersions()
    assert.deepEqual(versions.receive(0, withFlags(flagGoingAway | flagAreYouThere)), {
      _tag: "Ready",
      isQuestion: false
    })
  })

  it("refuses a version message with another id, or that is too short", () => {
    const versions = new ClientVersions()
    assert.deepEqual(versions.receive(7, plain), { _tag: "Bad", problem: "a version message with id 7, expected 0" })
    assert.deepEqual(versions.receive(0, new Uint8Array(3)), {
      _tag: "Bad",
      problem: "a version message of 3 bytes, expected at least 4"
    })
    assert.equal(versions.state, "Awaited")
  })
})

describe("what a server knows of its client", () => {
  it("is silent until any message comes", () => {
    const versions = new ServerVersions()
    assert.equal(versions.state, "Silent")
    versions.spoke()
    assert.deepEqual([versions.state, versions.understands], ["Spoken", false])
  })

  it("gives flags only to a client that understands them", () => {
    const versions = new ServerVersions()
    versions.receive(0, plain)
    assert.deepEqual([versions.flags(false), versions.flags(true)], [undefined, undefined])
    versions.receive(0, withFlags(flagUnderstood))
    assert.deepEqual([versions.flags(false), versions.flags(true)], [flagUnderstood, flagUnderstood | flagGoingAway])
  })

  it("notices once that a client understands flags", () => {
    const versions = new ServerVersions()
    const said = versions.receive(0, withFlags(flagUnderstood))
    assert.deepEqual(said, { _tag: "Said", understands: true, isFirst: true, isLastWord: false, isAnswer: false })
    const again = versions.receive(0, withFlags(flagUnderstood | flagNoMoreRequests))
    assert.deepEqual(again, { _tag: "Said", understands: true, isFirst: false, isLastWord: true, isAnswer: false })
  })

  it("takes one message as the answer to each of its probes", () => {
    const versions = new ServerVersions()
    const isThere = withFlags(flagUnderstood | flagAreYouThere)
    const isAnswer = () => {
      const said = versions.receive(0, isThere)
      return said._tag === "Said" && said.isAnswer
    }
    assert.equal(isAnswer(), false)
    assert.equal(versions.ask(false), flagUnderstood | flagAreYouThere)
    assert.equal(versions.ask(true), flagUnderstood | flagAreYouThere | flagGoingAway)
    assert.deepEqual([isAnswer(), isAnswer(), isAnswer()], [true, true, false])
  })

  it("does not probe a client that does not understand flags", () => {
    const versions = new ServerVersions()
    versions.receive(0, withFlags(flagNoMoreRequests))
    assert.throws(() => versions.ask(false), /does not understand flags/)
  })
})
