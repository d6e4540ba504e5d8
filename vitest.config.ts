import { defineConfig } from "vitest/config"

export default defineConfig({
  resolve: { tsconfigPaths: true },
  test: {
    include: ["test/**/*.test.ts"],
    // A process a file: sockets, timers and temporary directories of one cannot disturb another.
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 15_000,
    coverage: { provider: "v8", include: ["src/**"] }
  }
})
