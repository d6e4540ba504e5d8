/**
 * The pages of measured figures, `results/*.md`: each says what was measured, where and when, and how to measure it
 * again. A script writes its page with `--save`.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { cpus, release, totalmem, type } from "node:os"

/** The pages that scripts write. */
export const pages = {
  echo: {
    title: "Echo",
    script: "npm run bench --",
    about: "Calls per second, latencies, CPU time of one call, and the largest RSS. `×` is the ratio to `raw`."
  },
  variants: {
    title: "Echo: variants of effect-call",
    script: "npm run bench -- --variants",
    about: "The echo over Unix sockets and over mTLS, with a timeout for every call, and without metrics. " +
      "`×` is the ratio to `raw`."
  },
  quick: {
    title: "Echo: a quick run",
    script: "npm run bench -- --quick",
    about: "A short run of few systems. `×` is the ratio to `raw`."
  },
  balancers: {
    title: "Balancers",
    script: "npx node test/benchmark/balancers.ts",
    about:
      "A simulation in virtual time, with the same figures on every machine. `random` is `sharded` without keys. " +
      "`weighted` knows how fast the replicas are. `consistentHash` gets a random key with each call. Half of the " +
      "replicas are in each of two zones. A replica that restarts is down for 4 s. It comes back at a quarter of its " +
      "speed, and needs 10 s to reach its full speed; meanwhile `slowStart` increases its weight from a tenth. p50 " +
      "and p99 are in ms. " +
      "\"spread\" is the largest number of calls of a replica, in proportion to its speed, relative to the mean. " +
      "\"stuck\" and \"failed\" count the calls that were sent to the faulty replica during its fault."
  },
  connections: {
    title: "Idle connections",
    script: "npx node test/benchmark/connections.ts",
    about: "What an idle connection costs a server."
  },
  cores: {
    title: "Several cores",
    script: "npx node test/benchmark/cores.ts",
    about: "Several server processes on one port. \"busiest\" is the load of the busiest process, relative to the " +
      "average. \"ratio\" is the ratio to the first number of processes."
  },
  endpoints: {
    title: "Many endpoints",
    script: "npx node test/benchmark/endpoints.ts",
    about: "The time of a pick, and of an update of the endpoints. The Connection's column is the time from a new " +
      "list of endpoints until the state of the Connection shows it."
  },
  failing: {
    title: "All replicas are down",
    script: "npx node test/benchmark/failing.ts",
    about: "What calls cost that fail. Each caller makes one call, all at the same time. The last column compares " +
      "the CPU time with a fixed price for each endpoint and for each call."
  },
  fairness: {
    title: "One client floods the server",
    script: "npx node test/benchmark/fairness.ts",
    about: "How long the calls of another client take, and how late a timer of 1 ms is in the server's process."
  },
  growth: {
    title: "Memory over ten minutes",
    script: "npx node test/benchmark/growth.ts",
    about: "The RSS of the client and the server after each minute."
  },
  heap: {
    title: "A large heap",
    script: "npx node test/benchmark/heap.ts",
    about: "The influence of the application's other live objects. \"ratio\" is with them to without them."
  },
  options: {
    title: "The three latency options",
    script: "npx node test/benchmark/options.ts",
    about: "The curves from which the defaults of `writeFlattenLimit`, `inlineHandlerDuration` and " +
      "`optimisticSpinDuration` were chosen."
  },
  pending: {
    title: "Pending calls",
    script: "npx node test/benchmark/pending.ts",
    about: "Calls that wait for their answer, compared with fibers that wait for something else."
  },
  picks: {
    title: "Picks",
    script: "npx node test/benchmark/picks.ts",
    about: "The time of a pick as a call on an open connection makes it: the lowest of all rounds."
  },
  streamLatency: {
    title: "Streams: latency",
    script: "npx node test/benchmark/streamLatency.ts",
    about: "One caller's calls of 16 B, in ms, beside what else its connection carries, and the first item of a stream."
  },
  streamMemory: {
    title: "Streams: memory",
    script: "npx node test/benchmark/streamMemory.ts",
    about: "How far a server is ahead of a consumer that stops, what both processes then hold, and what an idle " +
      "stream takes."
  },
  streams: {
    title: "Streams",
    script: "npx node test/benchmark/streams.ts",
    about: "Items per second of streams without an end, CPU time of one item, and the largest RSS. \"÷ raw\" is the " +
      "median of the ratios to `raw` within a round; targets are the least ratios that were aimed at."
  }
} as const satisfies Record<string, { readonly title: string; readonly script: string; readonly about: string }>

export type PageName = keyof typeof pages

const effectVersion = (): string => {
  const text = readFileSync(new URL("../../node_modules/effect/package.json", import.meta.url), "utf8")
  // Every package.json of a package has a version.
  return (JSON.parse(text) as { readonly version: string }).version
}

/** This machine and its software, in one line. */
export const machine = (): string => {
  const cores = cpus()
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`
  const system = `${type()} ${release()}`
  const processor = cores[0]?.model.trim() ?? "unknown processor"
  return `${cores.length} cores (${processor}), ${memory}, ${system}, Node ${process.version.slice(1)}, ` +
    `effect ${effectVersion()}`
}

/** The arguments of the running script that are not its page's own, as they are typed. */
const extraArguments = (own: string, args: ReadonlyArray<string>): string =>
  args.filter((arg) => arg !== "--save" && !own.split(" ").includes(arg)).map((arg) => `${arg} `).join("")

/** Lines of at most 120 columns. All but the first are indented. */
const wrap = (text: string, indent = ""): string => {
  const lines: Array<string> = []
  let line = ""
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > 120) {
      lines.push(line)
      line = `${indent}${word}`
    } else {
      line = line === "" ? word : `${line} ${word}`
    }
  }
  return [...lines, line].join("\n")
}

/** A text as the tools print it, in a page. */
export const block = (text: string): string => `\`\`\`text\n${text.trimEnd()}\n\`\`\``

/** When and where figures were measured. */
export interface Circumstances {
  readonly date: string
  readonly machine: string
  readonly args: ReadonlyArray<string>
}

/** A page: what was measured and how, and the tables, which are in Markdown. */
export const page = (name: PageName, tables: string, { args, date, machine }: Circumstances): string => {
  const { about, script, title } = pages[name]
  return [
    `# ${title}`,
    "",
    wrap(about),
    "",
    "[How it is measured](../README.md)",
    "",
    wrap(`- Measured on ${date}: ${machine}`, "  "),
    wrap(`- Written by: \`${script} ${extraArguments(script, args)}--save\``, "  "),
    "",
    tables,
    ""
  ].join("\n")
}

/** Writes a page into `results/`, or into another folder. */
export const save = (
  name: PageName,
  tables: string,
  folder: URL = new URL("results/", import.meta.url)
): void => {
  mkdirSync(folder, { recursive: true })
  const file = new URL(`${name}.md`, folder)
  const date = new Date().toISOString().slice(0, 10)
  writeFileSync(file, page(name, tables, { date, machine: machine(), args: process.argv.slice(2) }))
  console.error(`written: ${file.pathname}`)
}
