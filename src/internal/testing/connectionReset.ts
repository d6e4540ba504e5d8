/** The error that both ends of a connection see when it breaks, in Node's form. It knows no connections. */
import { constants } from "node:os"

/** A fresh `ECONNRESET`. */
export const connectionReset = (): NodeJS.ErrnoException =>
  Object.assign(new Error("read ECONNRESET"), {
    code: "ECONNRESET",
    errno: -constants.errno.ECONNRESET,
    syscall: "read"
  })
