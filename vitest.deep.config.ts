import { defineConfig } from "vitest/config"
import quick from "./vitest.config.ts"

// What takes too long for `npm test`: tests that try each step of a program, or go on for long.
export default defineConfig({
  ...quick,
  // Far more than any takes: that a machine has other things to do is no reason to fail.
  test: { ...quick.test, include: ["test/**/*.deep.test.ts"], exclude: [], testTimeout: 600_000 }
})
