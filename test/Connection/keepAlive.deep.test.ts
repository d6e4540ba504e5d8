/** `keepAlive` of a client whose process stands still again and again. */
import { it } from "@effect/vitest"
import { standsStill } from "./standstill.ts"

// Each time takes 200 ms.
it.live("no server is given up because this process has stood still twenty times, with the answer in the kernel", () =>
  standsStill(20))
