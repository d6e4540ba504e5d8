/**
 * Ends a program as Ctrl-C does when its output is closed, as in `node program.ts | head -1`, so that it removes its
 * files. Without this, Node ends the program at once. Programs that make files or start a DNS server import it.
 */
process.stdout.once("error", () => process.kill(process.pid, "SIGINT")).on("error", () => {})
