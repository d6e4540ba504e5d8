import { defineConfig } from "vitest/config"
import quick from "./vitest.config.ts"

// The tests that take too long for `npm test`: they interrupt a program at each step, or run for a long time.
export default defineConfig({
  ...quick,
  // This is far more than any test takes, so that a test does not fail because the machine is busy.
  test: { ...quick.test, include: ["test/**/*.deep.test.ts"], exclude: [], testTimeout: 600_000 }
})
