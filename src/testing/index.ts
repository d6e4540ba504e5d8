/**
 * Tools for tests of programs that make calls: an in-memory network with faults, and a connection directly to handlers.
 *
 * @since 0.1.0
 */
export * as CallTest from "./CallTest.ts"
export * as TestNetwork from "./TestNetwork.ts"
