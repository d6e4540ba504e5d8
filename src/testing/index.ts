/**
 * What tests of programs that call need: an in-memory network with faults, and a connection straight to handlers.
 *
 * @since 0.1.0
 */
export * as CallTest from "./CallTest.ts"
export * as TestNetwork from "./TestNetwork.ts"
