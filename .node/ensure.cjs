// This script runs before every build, and so before `npm test` and `npm start`. It links `node` to the version that
// `npm ci` installed, and fails with a clear message if `node` is still too old. Without it, the cause would be hard to
// find: `npm ci` prints nothing when this optional download fails, and the later errors of an old Node do not mention
// the version. The script uses old syntax, because it must run on an old Node.
"use strict"

var childProcess = require("child_process")
var fs = require("fs")
var path = require("path")

var root = path.join(__dirname, "..")
var wanted = require(path.join(root, "package.json")).engines.node
var windows = process.platform === "win32"

// npm 10, which comes with Node 20 and 22, installs that Node but then deletes its link: npm removes the packages for
// other platforms, and their link has the same name.
function link() {
  var modules = path.join(root, "node_modules")
  var brought = path.join("node-" + (windows ? "win" : process.platform) + "-" + process.arch, "bin", "node")
  if (windows) brought += ".exe"
  if (!fs.existsSync(path.join(modules, brought))) return
  try {
    if (windows) fs.linkSync(path.join(modules, brought), path.join(modules, ".bin", "node.exe"))
    else fs.symlinkSync(path.join("..", brought), path.join(modules, ".bin", "node"))
  } catch (error) {
    if (error.code !== "EEXIST") throw error
  }
}

function numbers(version) {
  return version.replace(/^[^0-9]*/, "").split(".").map(function(part) {
    return parseInt(part, 10)
  })
}

function isOlder(version, than) {
  for (var i = 0; i < than.length; i++) {
    if (version[i] !== than[i]) return version[i] < than[i]
  }
  return false
}

link()

// Ask a new process for the version, because the link may be newer than this process.
var found = JSON.parse(
  childProcess.execFileSync("node", ["-p", "JSON.stringify([process.version, process.execPath])"]).toString()
)

if (isOlder(numbers(found[0]), numbers(wanted))) {
  console.error(
    [
      "",
      "effect-call needs Node " + wanted + ", but `node` is " + found[0] + " here (" + found[1] + ").",
      "",
      "For its own scripts this repository brings Node " + require("./package.json").version +
      " (linux x64 and arm64, windows x64).",
      "For " + process.platform + " " + process.arch + " it is not installed, or not used. Do one of these:",
      "  - run this through npm (`npm test`, `npm start`), which puts that Node first on the PATH;",
      "  - run `npm ci` again, with a network and without --omit=optional, since its download may have failed;",
      "  - install Node " + wanted + " yourself and put it first on the PATH.",
      ""
    ].join("\n")
  )
  process.exit(1)
}
