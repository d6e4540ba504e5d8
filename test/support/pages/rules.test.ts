/** That the checks of pages find what is wrong: each rule with pages that break it, and with one that doesn't. */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { checkPage } from "./check.ts"
import { excerptProblem, outputProblem, printedLines, unexplained } from "./excerpts.ts"
import { checkGuide } from "./guide.ts"
import { checkLinks } from "./links.ts"
import { exportsOf, hasProperty } from "./names.ts"
import { anchorsOf, parsePage, root } from "./page.ts"
import { show } from "./problem.ts"
import { path, topics } from "./shape.ts"
import { treeOf, treeOfFiles } from "./tree.ts"

const tree = treeOf(root)

/** What is found on a page with this text, without a topic's rules. */
const find = (text: string, name = "examples/fixture.md") =>
  checkPage(parsePage(name, `# A page\n\n${text}\n`), tree).map(show)

const finds = (text: string, ...expected: ReadonlyArray<RegExp>) => {
  const found = find(text)
  assert.equal(found.length, expected.length, `found: ${found.join("\n")}`)
  for (const [at, message] of expected.entries()) assert.match(found[at] ?? "", message)
}

const fence = (opening: string, code: string) => `\`\`\`${opening}\n${code}\n\`\`\``

describe("a right page", () => {
  it("has no problems", () => {
    finds([
      "Text with `Connection.make`, `Connection.ClientOptions`, `Endpoint.zone`, `Schema.Int`, `Server.ts` and a [link](../LICENSE).",
      "[A heading](#a-page), [a type](../src/Connection.ts#ClientOptions), [a property](../src/Connection.ts#CallOptions.timeout)",
      "[elsewhere](https://effect.website), [a folder](../src), `<b>`, a < b > c",
      fence("json", `{ "a": [1] }`),
      fence("yaml", "a: 1\n---\nb: [2]"),
      fence("sh", "npm ci && npm run build # npm run nothing\nnpx node test/mutations/run.ts"),
      fence("text", "a ──> b"),
      fence("go", "call.Serve()")
    ].join("\n"))
  })
})

describe("links", () => {
  it("to a file that is not there", () => {
    finds(
      "[x](nothing/here.md)",
      /^examples\/fixture\.md:3: the link nothing\/here\.md: there is no examples\/nothing\/here\.md here$/
    )
    finds("![x](no.svg)", /there is no examples\/no\.svg/)
    finds("[x]: no.md", /there is no examples\/no\.md/)
  })

  it("with a title, with parentheses, and with the target elsewhere on the page", () => {
    finds(`[x](no.md "A title")`, /there is no examples\/no\.md/)
    finds("[x](no(t).md)", /there is no examples\/no\(t\)\.md/)
    finds(`[x](../LICENSE "A title")`)
    finds(
      "[x][there]",
      /^examples\/fixture\.md:3: the link \[there\]: there is no line "\[there\]: …" with its target$/
    )
    finds("[x][there] [There][] `a[0][1]`\n\n[there]: ../LICENSE")
  })

  it("whose text names another option than their target", () => {
    finds(
      "[shardKey](../src/Connection.ts#CallOptions.timeout)",
      /the link \[shardKey\]: it leads to CallOptions\.timeout/
    )
    finds("[time limit](../src/Connection.ts#CallOptions.timeout)")
  })

  it("out of the repository, and absolute ones", () => {
    finds("[x](../../x)", /out of the repository/)
    finds("[x](/README.md)", /relative/)
    finds("[x](file:///README.md)", /relative/)
  })

  it("to a heading that is not there", () => {
    finds("[x](#b-page)", /there is no heading #b-page in examples\/fixture\.md/)
    finds("[x](../README.md#no-such-heading)", /there is no heading #no-such-heading in README\.md; it has #/)
    finds("[x](../src#x)", /a folder has no anchors/)
    finds("[x](../package.json#x)", /only pages and public modules have anchors/)
  })

  it("to names that are not public", () => {
    finds("[x](../src/Connection.ts#Nothing)", /src\/Connection\.ts does not export Nothing/)
    finds("[x](../src/Connection.ts#dual)", /does not export dual/)
    finds(
      "[x](../src/Connection.ts#ClientOptions.nothing)",
      /ClientOptions of src\/Connection\.ts has no property nothing/
    )
    finds("[x](../src/Connection.ts#CallOptions.retry.x)", /a name, or a name and a property/)
    finds("[x](../src/internal/client/model.ts#ClientOptions)", /not a public module/)
  })

  it("to files that are not in the package", () => {
    const page = parsePage("README.md", "# A\n[a](LICENSE) [b](src) [c](test/Server.test.ts)\n")
    const shipped = treeOfFiles(["README.md", "LICENSE", "src/index.ts"])
    assert.deepEqual(checkLinks(page, shipped, "in the package").map(show), [
      "README.md:2: the link test/Server.test.ts: there is no test/Server.test.ts in the package"
    ])
  })

  it("have anchors as GitHub makes them", () => {
    const page = parsePage(
      "x.md",
      "# The `k8s://` scheme, & more\n## Copy\n## Copy\n## [A](b.md) link\n```sh\n# not one\n```\n"
    )
    assert.deepEqual([...anchorsOf(page)], ["the-k8s-scheme--more", "copy", "copy-1", "a-link"])
  })
})

describe("names", () => {
  it("that no module exports", () => {
    finds(
      "`Connection.nothing`",
      /`Connection\.nothing`: src\/Connection\.ts does not export nothing; it exports .*ClientOptions/
    )
    finds("a ``Layer.provide(Balancer.none())`` b", /does not export none/)
    assert.match(
      checkPage(parsePage("src/X.ts", "/**\n * Not `CallTest.serve`.\n */\nconst a = `Server.nothing`\n"), tree).map(
        show
      )
        .join("\n"),
      /^src\/X\.ts:2: `CallTest\.serve`: src\/testing\/CallTest\.ts does not export serve[^\n]*$/
    )
  })

  it("of properties of public types", () => {
    finds("`CallOptions.timeout` and `Fiber.nothing`")
    finds(
      "`CallOptions.nothing`",
      /`CallOptions\.nothing`: CallOptions of src\/Connection\.ts.* has no property nothing/
    )
  })

  it("of options that are nowhere in the code", () => {
    finds("`shutdownGrace` `preStop` `anything else`")
    finds("`shutdownGracy`", /^examples\/fixture\.md:3: `shutdownGracy`: no code of the project has this name$/)
    assert.deepEqual(find("`shutdownGracy`", "examples/coming-from-go/notes.md"), [])
  })

  it("are read with the types that a module only hands on, and their properties", () => {
    assert.ok(exportsOf("src/Connection.ts").has("EndpointState"))
    assert.ok(exportsOf("src/Resolver.ts").has("SchemeServices"))
    assert.ok(!exportsOf("src/Connection.ts").has("Client"))
    assert.ok(hasProperty("src/Endpoint.ts", "NetEndpoint", "zone"))
    assert.ok(hasProperty("src/Connection.ts", "Connection", "call"))
    assert.ok(hasProperty("src/CallError.ts", "CommunicationError", "maybeExecuted"))
    assert.ok(hasProperty("src/Endpoint.ts", "DialError", "endpoint"))
    assert.ok(hasProperty("src/Listener.ts", "ListenerError", "address"))
    assert.ok(!hasProperty("src/Connection.ts", "Connection", "shardKey"))
    // This is a property of its `keepAlive`.
    assert.ok(!hasProperty("src/Connection.ts", "ClientOptions", "interval"))
  })
})

describe("code blocks", () => {
  it("without an end, without a language, in an unknown one", () => {
    finds("```ts\nconst a = 1", /^examples\/fixture\.md:3: a code block without an end/)
    finds(fence("", "a"), /without a language/)
    finds("~~~ts\nconst a: = 1\n~~~", /:3: a code block that no check sees/, /:5: a code block/)
    finds("- a\n\n      ```ts", /:5: a code block that no check sees/)
    finds(fence("typescript", "a"), /a code block in "typescript"; expected ts/)
  })

  it("of JSON and YAML that does not parse", () => {
    finds(fence("json", "{ a: 1 }"), /the JSON does not parse/)
    finds(fence("yaml", "a: 1\n---\nb: [1"), /the YAML does not parse/)
  })

  it("with commands that do not exist", () => {
    finds(
      fence("sh", "cd x\nnpm run nothing"),
      /^examples\/fixture\.md:5: package\.json has no script "nothing"; it has /
    )
    finds(fence("sh", "npm nothing"), /has no script "nothing"/)
    finds(fence("sh", "npx node examples/nothing.ts"), /there is no examples\/nothing\.ts/)
    finds(fence("sh", "npm run"), /without the name of a script/)
  })

  it("of a program that is not there, or in a language of which there are no programs", () => {
    finds(fence("ts nothing.ts", "a"), /there is no program examples\/nothing\.ts/)
    finds(fence("text nothing.ts", "a"), /there is no program examples\/nothing\.ts/)
    finds(fence("sh ../src/index.ts", "npm ci"), /only ts and text blocks name a program/)
  })

  it("with an excerpt that is not in its program", () => {
    finds(fence("ts ../src/index.ts", `export * as Deadline from "./Deadline.ts"`))
    finds(fence("ts ../src/index.ts", "const a = 1"), /the excerpt is not in src\/index\.ts .*: const a = 1/)
  })

  it("have excerpts whose lines follow each other as in the program", () => {
    const program = ["a", "  b", "", "    c", "  d", "e", "a", "f"]
    const right = [["a", "  b"], ["b", "  c", "d"], ["b", "", "  c"], ["a", "// ...", "e"], ["// ...", "a", "f"], [
      "d",
      "// ..."
    ]]
    for (const excerpt of right) assert.equal(excerptProblem(excerpt, program), undefined, excerpt.join("|"))
    assert.equal(excerptProblem(["a", "c"], program), "c")
    assert.equal(excerptProblem(["b", "c"], program), "c")
    assert.equal(excerptProblem(["e", "// ...", "d"], program), "d")
    assert.equal(excerptProblem(["f", "g"], program), "g")
    assert.equal(excerptProblem(["// ..."], program), "it is empty")
  })
})

describe("the shape", () => {
  it("of pages that are too large", () => {
    const text = `# A page\n${"1234567\n".repeat(2048)}`
    for (
      const [name, limit] of [
        ["README.md", 16_384],
        ["examples/README.md", 8192],
        ["examples/tls/README.md", 8192],
        ["test/README.md", 8192],
        ["test/benchmark/README.md", 10_240],
        ["src/README.md", 12_288]
      ] as const
    ) {
      const found = checkPage(parsePage(name, text), tree).map(show)
      assert.equal(found[0], `${name}:1: the page has 16393 bytes; at most ${limit} are allowed`)
    }
  })

  it("of lines that are too wide, tables, URLs and code excepted", () => {
    const wide = "wide ".repeat(25)
    finds(wide, /the line has 125 columns; at most 120 are allowed/)
    finds(`| ${wide} |`)
    finds(`${wide} https://effect.website`)
    finds(fence("text", wide))
    finds(`[a link](../LICENSE) and ${"[x](../LICENSE) ".repeat(10)}`)
  })

  it("of a page without a title, and with HTML", () => {
    assert.match(checkPage(parsePage("x.md", "Text\n"), tree).map(show).join(), /must begin with a line `# Title`/)
    finds("<details>", /HTML: <details>/)
    finds("a <br/> b", /HTML: <br\/>/)
    finds(`<img src="x">`, /HTML: <img/)
  })

  it("of a topic without its last lines, or with a wrong next page", () => {
    const topic = (name: string, ...lines: ReadonlyArray<string>) =>
      checkPage(
        parsePage(
          `examples/${name}/README.md`,
          `# A\n\nText.\n\`\`\`sh\nnpx node examples/${name}/a.ts\n\`\`\`\n${lines.join("\n")}\n`
        ),
        () => "file"
      ).map((
        { message }
      ) => message)
    const reference = "**Reference:** [x](../../LICENSE)"
    assert.deepEqual(topic("tls", reference, "**Next:** [x](../shop/README.md)"), [])
    assert.deepEqual(topic("tls", "**Next:** [x](../shop/README.md)"), [
      "there is no line **Reference:** with links to the reference"
    ])
    assert.deepEqual(topic("tls", reference), ["there is no line **Next:** with a link to the next page"])
    assert.deepEqual(topic("tls", reference, "**Next:** [x](../testing/README.md)"), [
      "there is no link to examples/shop/README.md after **Next:**"
    ])
    assert.deepEqual(topic("tls", reference, "**Next:** [x](../shop/README.md)", "## More"), [
      "the page must end with the line **Next:**"
    ])
    assert.deepEqual(topic("coming-from-go", reference), ["there is no link to examples/README.md"])
    assert.deepEqual(topic("coming-from-go", reference, "[back](../README.md)"), [])
    assert.deepEqual(topic(path.at(-1) ?? "", reference, "**Next:** [x](../README.md)"), [])
  })
})

describe("the beginning of a topic's page", () => {
  const ending = "**Reference:** [x](../../LICENSE)\n\n[back](../README.md)\n"
  const beginning = (text: string) =>
    checkPage(parsePage("examples/coming-from-go/README.md", `# A\n\n${text}\n\n${ending}`), () => "file").map(show)

  it("is a sentence, and a command", () => {
    const command = fence("sh", "npx node examples/coming-from-go/wire.ts")
    assert.deepEqual(beginning(`After this page you can.\n\n${command}`), [])
    assert.match(beginning(command).join("\n"), /must say in a sentence what the reader can do after it$/)
    assert.match(
      beginning(`After.\n\n${fence("text", "a")}\n${command}`).join("\n"),
      /README\.md:5: the first block must be ```sh/
    )
    assert.match(beginning(`After.\n\n${fence("sh", "npm test")}`).join("\n"), /:5: the first block must be ```sh/)
  })
})

describe("what a page shows of a program's output", () => {
  const printed = printedLines("one\n\n\u001B[32mtwo\u001B[0m 17 ms\nthree  \r\ntwo 3 ms\nfour (4)\n")

  it("is what the program prints, whole or in part", () => {
    const right = [
      ["one", "two 17 ms", "three"],
      ["two … ms", "", "three"],
      ["one", "…", "four (4)"],
      ["…", "two … ms", "four (…)"],
      ["two …", "…", "two …"]
    ]
    for (const shown of right) assert.equal(outputProblem(shown, printed), undefined, shown.join("|"))
  })

  it("is not what it prints elsewhere, otherwise, or not at all", () => {
    assert.equal(outputProblem(["one", "three"], printed), "three")
    assert.equal(outputProblem(["four (4)", "…", "one"], printed), "one")
    assert.equal(outputProblem(["one", "two … s"], printed), "two … s")
    assert.equal(outputProblem(["four .4."], printed), "four .4.")
    assert.equal(outputProblem(["four (4)", "five"], printed), "five")
    assert.equal(outputProblem(["one", "…", "two …", "…", "two …", "…", "two …"], printed), "two …")
    assert.equal(outputProblem(["…"], printed), "it is empty")
  })

  it("explains each warning", () => {
    const lines = ["[10:00:00] WARN (#1): a replica was lost", "fine"]
    assert.deepEqual(unexplained(lines, ["fine"]), [lines[0]])
    assert.deepEqual(unexplained(lines, ["…"]), [lines[0]])
    assert.deepEqual(unexplained(lines, ["… WARN …: a replica was lost"]), [])
  })
})

describe("the guide", () => {
  const way = `# Path\n${topics.map((topic) => `[x](${topic}/README.md)`).join("\n")}\n`
  const page = (name: string, text: string) => parsePage(name, text)
  const all = (text = way, tls = "[x](a.ts) [x](b.test.ts)") => [
    page("examples/README.md", text),
    ...topics.map((topic) => page(`examples/${topic}/README.md`, topic === "tls" ? tls : "# A\n"))
  ]
  const files = (topic: string) => topic === "tls" ? ["examples/tls/a.ts", "examples/tls/b.test.ts"] : []

  it("lists its topics and their programs", () => {
    assert.deepEqual(checkGuide(all(), files), [])
  })

  it("does not forget one, and lists none that there isn't", () => {
    assert.deepEqual(checkGuide(all(way.replace("[x](shop/README.md)", "")), files).map(show), [
      "examples/README.md:1: there is no link to examples/shop/README.md"
    ])
    assert.deepEqual(checkGuide(all(way, "[x](b.test.ts)"), files).map(show), [
      "examples/tls/README.md:1: there is neither a link nor a command for examples/tls/a.ts, which is in the topic's folder"
    ])
    assert.deepEqual(checkGuide(all(way, "[x](a.ts) [x](b.test.ts) [x](c.ts)"), files).map(show), [
      "examples/tls/README.md:1: there is no program examples/tls/c.ts"
    ])
    assert.deepEqual(checkGuide(all().filter(({ name }) => name !== "examples/tls/README.md"), files).map(show), [
      "examples/tls/README.md:1: there is no such page"
    ])
  })

  it("shows output of its programs only", () => {
    const shows = (program: string) => `[x](a.ts) [x](b.test.ts)\n\`\`\`text ${program}\nhello\n\`\`\``
    assert.deepEqual(checkGuide(all(way, shows("a.ts")), files), [])
    assert.deepEqual(checkGuide(all(way, shows("parts/c.ts")), files).map(show), [
      "examples/tls/README.md:2: examples/tls/parts/c.ts is no program of the guide, so its output is not checked"
    ])
  })
})
