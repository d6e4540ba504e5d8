import { assert, describe, it } from "@effect/vitest"
import { checkTransition, type Transitions } from "../../src/internal/transitions.ts"

type Door = "Open" | "Closed" | "Gone"

const allowed: Transitions<Door> = { Open: ["Closed", "Gone"], Closed: ["Open"], Gone: [] }

const go = (from: Door, to: Door) => () => checkTransition("the door of a house", allowed, from, to)

describe("a transition", () => {
  it("passes if the table allows it", () => {
    assert.doesNotThrow(go("Open", "Closed"))
    assert.doesNotThrow(go("Closed", "Open"))
  })

  it("throws otherwise, and the error names the machine, both states and those that are allowed", () => {
    assert.throws(go("Closed", "Gone"), "the door of a house cannot go from Closed to Gone, expected Open")
    assert.throws(go("Open", "Open"), "the door of a house cannot go from Open to Open, expected Closed or Gone")
  })

  it("throws in a last state, whatever the next state is", () => {
    assert.throws(go("Gone", "Open"), "the door of a house cannot go from Gone to Open, expected no other state")
  })
})
