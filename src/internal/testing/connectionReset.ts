/** The error that both ends of a connection see when it breaks, as Node gives it. */
import { constants } from "node:os"

/** A fresh `ECONNRESET`. */
export const connectionReset = (): NodeJS.ErrnoException =>
  Object.assign(new Error("read ECONNRESET"), {
    code: "ECONNRESET",
    errno: -constants.errno.ECONNRESET,
    syscall: "read"
  })
