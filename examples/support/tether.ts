/**
 * Ties a program to its parent process: `node --import tether.ts PROGRAM`. When the program's standard input ends, the
 * program gets SIGTERM.
 *
 * So the program does not outlive a runner that was killed. In production this is not needed, because the supervisor
 * of the processes stops them.
 */
import { Socket } from "node:net"

process.stdin.on("end", () => process.kill(process.pid, "SIGTERM")).resume()
// A program that is done ends, though its standard input is still open.
if (process.stdin instanceof Socket) process.stdin.unref()
