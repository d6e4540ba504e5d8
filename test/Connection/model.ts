/**
 * What a Connection is to do, as plain data: which endpoints it has, what connection there is to each, and where each
 * call is.
 *
 * It has one connection to an endpoint, no backoff and no outlier ejection. What is sent in one turn of the event loop
 * arrives at its end ({@link Model.rest}); all else happens at once.
 */
import type { Word } from "./handNetwork.ts"
import {
  type Action,
  type Call,
  dialTimeout,
  type Entry,
  type Glance,
  type Line,
  type Preset,
  type Snapshot
} from "./modelParts.ts"

export class Model {
  /** How often what happened that a test is for. */
  readonly happened = new Map<string, number>()
  private now = 0
  private closed = false
  private listed: ReadonlyArray<string> = []
  private readonly table = new Map<string, Entry>()
  private readonly lines: Array<Line> = []
  private readonly calls: Array<Call> = []
  private readonly presets = new Map<string, Preset>()
  /** The calls that wait for other endpoints, in the order in which they came to that. */
  private waiting: Array<Call> = []
  private readonly cuts: Array<Line> = []
  /** How many dials have failed. */
  private failures = 0
  /** What arrives when the turn ends, after requests have left. */
  private readonly underway: Array<() => void> = []

  apply(action: Action): void {
    switch (action._tag) {
      case "List":
        return this.list([...new Set(action.addresses)], action.edition)
      case "Call": {
        const { only, timeout, waitForReady } = action
        const call: Call = {
          number: action.call,
          only,
          waitForReady,
          deadlineAt: timeout === undefined ? Infinity : this.now + timeout,
          line: undefined,
          isQueued: false,
          end: undefined,
          since: waitForReady ? Infinity : this.failures,
          tried: new Set(),
          failed: new Set(),
          losses: new Map()
        }
        this.calls.push(call)
        return this.place(call)
      }
      case "Interrupt": {
        const call = this.calls[action.call]
        if (call === undefined || call.end !== undefined) return
        if (call.line?.state === "Open" && !call.isQueued) call.line.cancels.push(call.number)
        this.note(call.isQueued ? "interrupted unsent" : "interrupted")
        return this.end(call, "interrupted")
      }
      case "Connect":
        this.line(action.line).state = "Greeting"
        return this.say(this.line(action.line), action.words)
      case "Refuse":
        return this.lost(this.line(action.line), action.how === "gives a closed socket")
      case "Preset":
        this.presets.set(action.address, action.as)
        return
      case "Say":
        return this.say(this.line(action.line), action.words)
      case "Cut":
        this.cuts.push(this.line(action.line))
        return
      case "Hangup":
        this.underway.push(() => this.lost(this.line(action.line), true))
        return
      case "Pass":
        return this.pass(this.now + action.millis)
      case "Close":
        return this.close()
    }
  }

  /** The turn ends, and what was sent in it arrives. */
  rest(): void {
    for (const line of this.cuts.splice(0)) this.lost(line, true)
    this.flush()
    // What follows from it arrives later.
    for (let arrive = this.underway.shift(); arrive !== undefined; arrive = this.underway.shift()) {
      arrive()
      this.flush()
    }
  }

  get glance(): Glance {
    return {
      closed: this.closed,
      endpoints: [...this.table.values()].map(({ address, current, draining, hasFailed }) => ({
        address,
        state: current?.state === "Open"
          ? "Active"
          : current !== undefined
          ? "Dialing"
          : draining.length > 0
          ? "Draining"
          : "Idle",
        callsInFlight: [...draining, ...current?.state === "Open" ? [current] : []]
          .reduce((sum, { calls }) => sum + calls.length, 0),
        hasFailed
      })),
      ends: this.calls.map(({ end }) => end)
    }
  }

  get snapshot(): Snapshot {
    return {
      ...this.glance,
      lines: this.lines.filter(({ state }) => state !== "Closed").map((line) => ({
        name: line.name,
        edition: line.edition,
        isDialing: line.state === "Dialing",
        requests: line.requests.toSorted((a, b) => a - b),
        cancels: line.cancels.toSorted((a, b) => a - b),
        saidLast: line.isGoingAway
      })),
      inFlight: this.calls.map(({ line }) => line?.state === "Open" ? line.name : undefined)
    }
  }

  private list(addresses: ReadonlyArray<string>, edition: number): void {
    if (this.closed) return
    this.listed = addresses
    for (const address of addresses) {
      const entry = this.table.get(address)
      if (entry === undefined) {
        this.table.set(address, {
          address,
          edition,
          isListed: true,
          hasFailed: false,
          failure: 0,
          hasRepeated: false,
          current: undefined,
          draining: []
        })
        continue
      }
      entry.edition = edition
      if (entry.isListed) continue
      entry.isListed = true
      entry.current = entry.draining.find(({ isGoingAway }) => !isGoingAway)
      if (entry.current !== undefined) this.note("a draining connection is used again")
      else this.note("listed again while a connection goes away")
      entry.draining = entry.draining.filter((line) => line !== entry.current)
    }
    const withdrawn: Array<Call> = []
    for (const entry of [...this.table.values()]) {
      if (addresses.includes(entry.address) || !entry.isListed) continue
      entry.isListed = false
      const line = entry.current
      if (line?.state === "Open") this.drain(entry, line)
      else if (line !== undefined) {
        withdrawn.push(...line.calls)
        this.note("withdrawn while it was dialed")
        this.shut(line)
      }
      this.leaveIfGone(entry)
    }
    for (const call of withdrawn) this.place(call)
    const { waiting } = this
    this.waiting = []
    for (const call of waiting) {
      call.tried.clear()
      this.place(call)
    }
  }

  /** Finds a call its connection, its dial, or its end. */
  private place(call: Call): void {
    call.line = undefined
    if (this.closed) return this.end(call, "Closed, not executed")
    const may = call.only === undefined ? this.listed : this.listed.filter((address) => address === call.only)
    const hasFailed = (address: string) => (this.table.get(address)?.failure ?? 0) > call.since
    const address = may.find((address) => !call.tried.has(address) && !hasFailed(address))
    if (address === undefined) {
      if (!call.waitForReady) {
        if (may.some((address) => !call.failed.has(address))) this.note("unreachable by what others have dialed")
        const failed = new Set([...call.failed, ...this.listed.filter(hasFailed)])
        return this.end(call, ["Unreachable", ...[...failed].toSorted()].join(" "))
      }
      if (may.length === 0) return void this.waiting.push(call)
      // There is no backoff that it might wait for.
      call.tried.clear()
      return this.place(call)
    }
    const entry = this.entry(address)
    const { current } = entry
    if (current === undefined) return this.dial(entry, [call])
    call.line = current
    current.calls.push(call)
    call.isQueued = current.state === "Open"
  }

  /** Dials, for these calls. */
  private dial(entry: Entry, calls: Array<Call>): void {
    const { address, edition } = entry
    const n = this.lines.filter((line) => line.address === address).length + 1
    const line: Line = {
      name: `${address}${n}`,
      address,
      edition,
      failsAt: this.now + dialTimeout,
      state: "Dialing",
      isGoingAway: false,
      calls,
      requests: [],
      cancels: []
    }
    entry.current = line
    this.lines.push(line)
    for (const call of calls) call.line = line
    const preset = this.presets.get(address)
    if (preset === undefined) return
    this.presets.delete(address)
    if ("how" in preset) return this.lost(line, preset.how === "gives a closed socket")
    line.state = "Greeting"
    this.say(line, preset.words)
  }

  /** What was queued leaves. */
  private flush(): void {
    for (const line of this.lines) {
      if (line.state !== "Open") continue
      for (const call of line.calls) {
        if (call.isQueued) line.requests.push(call.number)
        call.isQueued = false
      }
    }
  }

  private say(line: Line, words: ReadonlyArray<Word>): void {
    this.underway.push(() => words.forEach((word) => this.hear(line, word)))
  }

  private hear(line: Line, word: Word): void {
    if (line.state === "Closed") return
    const entry = this.entry(line.address)
    switch (word._tag) {
      case "Nonsense":
        return this.lost(line)
      case "Version":
      case "GoingAwayUnflagged":
      case "GoingAway":
        if (line.state === "Greeting") {
          if (word._tag === "GoingAway") {
            this.note("a server that goes away is dialed")
            return this.lost(line, true)
          }
          line.state = "Open"
          entry.hasFailed = false
          entry.failure = 0
          entry.hasRepeated = false
          for (const call of line.calls) call.isQueued = true
        } else if (word._tag === "GoingAway") {
          line.isGoingAway = true
          if (entry.current === line) this.drain(entry, line)
          else this.note("a connection that drains goes away")
        }
        return
      case "Answer":
      case "Failure":
      case "TimeIsUp": {
        const call = line.calls.find(({ number }) => number === word.call)
        if (call === undefined) return
        this.end(
          call,
          word._tag === "Answer"
            ? "answered"
            : word._tag === "TimeIsUp" && call.deadlineAt < Infinity
            ? "DeadlineExceeded"
            : "RemoteError"
        )
      }
    }
  }

  /** An open connection takes no more calls. */
  private drain(entry: Entry, line: Line): void {
    entry.current = undefined
    if (line.calls.length === 0) {
      this.note(line.isGoingAway ? "goes away without calls" : "withdrawn without calls")
      return this.shut(line)
    }
    this.note(line.isGoingAway ? "goes away with calls" : "withdrawn with calls")
    entry.draining.push(line)
  }

  /** A dial has failed, or a connection was lost. One that a peer has cut short is repeated once. */
  private lost(line: Line, isCutShort = false): void {
    if (line.state === "Closed") return
    const entry = this.entry(line.address)
    const wasOpen = line.state === "Open"
    const calls = line.calls
    this.note(!wasOpen ? "a dial failed" : entry.current === line ? "lost" : "lost while it drained")
    entry.hasFailed = true
    this.shut(line)
    if (!wasOpen && isCutShort && entry.failure === 0 && !entry.hasRepeated) {
      this.note("a dial was cut short, and repeated")
      entry.hasRepeated = true
      return this.dial(entry, calls)
    }
    if (!wasOpen) entry.failure = ++this.failures
    this.leaveIfGone(entry)
    for (const call of calls) {
      if (!wasOpen) {
        if (entry.failure <= call.since) call.tried.add(line.address)
        call.failed.add(line.address)
        this.place(call)
      } else if (call.isQueued) {
        // Once may happen to any connection.
        const losses = (call.losses.get(line.address) ?? 0) + 1
        call.losses.set(line.address, losses)
        if (losses > 1) call.tried.add(line.address)
        call.failed.add(line.address)
        call.isQueued = false
        this.note(losses > 1 ? "lost unsent once more" : "lost unsent")
        this.place(call)
      } else {
        this.end(call, "Lost, maybe executed")
      }
    }
  }

  private end(call: Call, how: string): void {
    const { line } = call
    call.end = how
    call.line = undefined
    this.waiting = this.waiting.filter((other) => other !== call)
    if (line === undefined || line.state === "Closed") return
    line.calls = line.calls.filter((other) => other !== call)
    if (line.calls.length > 0) return
    const entry = this.entry(line.address)
    if (line.state !== "Open") return this.note("a dial goes on though no call waits for it")
    if (entry.current === line) return
    this.note("drained")
    this.shut(line)
    this.leaveIfGone(entry)
  }

  private pass(until: number): void {
    while (true) {
      const deadline = Math.min(...this.calls.map(({ deadlineAt, end }) => end === undefined ? deadlineAt : Infinity))
      const dials = this.lines.filter(({ state }) => state === "Dialing" || state === "Greeting")
      const failure = Math.min(...dials.map(({ failsAt }) => failsAt))
      this.now = Math.min(deadline, failure, until)
      if (failure < deadline && failure <= until) {
        this.note("a dial took too long")
        this.lost(dials.find(({ failsAt }) => failsAt === failure)!)
      } else if (deadline <= until) {
        for (const call of this.calls) {
          if (call.end !== undefined || call.deadlineAt > this.now) continue
          this.note(call.line === undefined ? "late without a line" : `late while ${call.line.state}`)
          this.end(call, "DeadlineExceeded")
        }
      } else {
        return
      }
    }
  }

  private close(): void {
    this.closed = true
    for (const call of this.calls) {
      if (call.end !== undefined) continue
      call.end = call.line?.state === "Open" && !call.isQueued ? "Closed, maybe executed" : "Closed, not executed"
      call.line = undefined
    }
    for (const line of this.lines) line.state = "Closed"
    this.table.clear()
  }

  private shut(line: Line): void {
    line.state = "Closed"
    line.calls = []
    const entry = this.entry(line.address)
    if (entry.current === line) entry.current = undefined
    entry.draining = entry.draining.filter((other) => other !== line)
  }

  private leaveIfGone({ address, draining, isListed }: Entry): void {
    if (!isListed && draining.length === 0) this.table.delete(address)
  }

  private entry(address: string): Entry {
    const entry = this.table.get(address)
    if (entry === undefined) throw new Error(`there is nothing at ${address}`)
    return entry
  }

  private line(name: string): Line {
    const line = this.lines.find((line) => line.name === name)
    if (line === undefined) throw new Error(`there is no ${name}`)
    return line
  }

  private note(what: string): void {
    this.happened.set(what, (this.happened.get(what) ?? 0) + 1)
  }
}
