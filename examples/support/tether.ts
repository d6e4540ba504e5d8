/**
 * Ties a program to whoever started it, with `node --import tether.ts PROGRAM`: when its standard input ends, it is
 * told to stop.
 *
 * So it does not outlive a runner that was killed. In production, a program is started by something that sees to that
 * by itself.
 */
process.stdin.on("end", () => process.kill(process.pid, "SIGTERM")).resume()
