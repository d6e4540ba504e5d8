/**
 * Reads the certificates from the directory in the environment variable CERTS, by default `certs`.
 */
import { Config, Effect } from "effect"
import { readFile } from "node:fs/promises"
import { join } from "node:path"

/** The options of TLS for a side: `server` or `client`. The effect reads the files each time that it runs. */
export const tlsFiles = Effect.fnUntraced(function*(side: string) {
  const directory = yield* Config.String("CERTS").pipe(Config.withDefault("certs"))
  return Effect.tryPromise({
    try: async () => ({
      ca: await readFile(join(directory, "ca.pem")),
      cert: await readFile(join(directory, `${side}.pem`)),
      key: await readFile(join(directory, `${side}-key.pem`))
    }),
    catch: (cause) => `cannot read the certificates: ${String(cause)}`
  })
})
