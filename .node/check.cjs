// Runs before `npm test` and `npm start`: `npm ci` says nothing when the optional download of Node failed, and an old Node would
// then fail later with errors that name neither. Old syntax throughout, because this file has to run on that old Node.
"use strict"

var path = require("path")
var root = path.join(__dirname, "..")
var wanted = require(path.join(root, "package.json")).engines.node

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

if (isOlder(numbers(process.version), numbers(wanted))) {
  console.error(
    [
      "",
      "effect-call needs Node " + wanted + ", but `node` is " + process.version + " here (" + process.execPath + ").",
      "",
      "`npm ci` brings Node " + require("./package.json").version +
      " for this repository's own scripts (linux x64 and arm64, windows x64).",
      "It is missing for " + process.platform + " " + process.arch + ", or it was not used. Do one of these:",
      "  - run this through npm (`npm test`, `npm start`), which puts that Node first on the PATH;",
      "  - run `npm ci` again, with a network and without --omit=optional, since its download may have failed;",
      "  - install Node " + wanted + " yourself and put it first on the PATH.",
      ""
    ].join("\n")
  )
  process.exit(1)
}
