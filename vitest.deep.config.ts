import { defineConfig } from "vitest/config"
import quick from "./vitest.config.ts"

// What takes too long for `npm test`: tests that try each step of a program, or go on for long.
export default defineConfig({
  ...quick,
  test: { ...quick.test, include: ["test/**/*.deep.test.ts"], exclude: [] }
})
