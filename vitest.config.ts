import { defineConfig } from "vitest/config"

export default defineConfig({
  resolve: { tsconfigPaths: true },
  test: {
    include: ["test/**/*.test.ts"],
    // They have a configuration of their own: `npm run test:deep`.
    exclude: ["test/**/*.deep.test.ts"],
    // Files share two processes: loading Effect anew for each of them takes as long as all the tests. A file that left
    // sockets or timers behind would be found by those that count them.
    pool: "forks",
    isolate: false,
    maxWorkers: 2,
    // What tests break on purpose is logged as a warning.
    silent: "passed-only",
    // None takes a tenth of that, but on a machine that is busy with much else.
    testTimeout: 60_000,
    coverage: { provider: "v8", include: ["src/**"] }
  }
})
