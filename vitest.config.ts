import { defineConfig } from "vitest/config"

export default defineConfig({
  resolve: { tsconfigPaths: true },
  test: {
    include: ["test/**/*.test.ts", "examples/**/*.test.ts"],
    // Deep tests have their own configuration, and run with `npm run test:deep`.
    exclude: ["test/**/*.deep.test.ts"],
    // The test files share two processes, because loading Effect again for each file takes as long as all the tests.
    // Some tests count sockets and timers, so they would detect a file that leaks them.
    pool: "forks",
    isolate: false,
    maxWorkers: 2,
    // Tests cause warnings on purpose, so the output of passing tests is hidden.
    silent: "passed-only",
    // No test takes a tenth of this time, except on a busy machine.
    testTimeout: 60_000,
    coverage: { provider: "v8", include: ["src/**"] }
  }
})
