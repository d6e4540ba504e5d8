/**
 * Calls between services whose replicas start and stop at any time, with typed errors and structured concurrency.
 *
 * @since 0.1.0
 */
export * as Balancer from "./Balancer.ts"
export * as CallError from "./CallError.ts"
export * as Component from "./Component.ts"
export * as Connection from "./Connection.ts"
export * as Deadline from "./Deadline.ts"
export * as Endpoint from "./Endpoint.ts"
export * as HandlerMap from "./HandlerMap.ts"
export * as Health from "./Health.ts"
export * as Listener from "./Listener.ts"
export * as MethodKey from "./MethodKey.ts"
export * as Resolver from "./Resolver.ts"
export * as Server from "./Server.ts"
