/**
 * Calls between services whose replicas start and stop at any time, with typed errors and structured concurrency.
 *
 * @since 0.1.0
 */

/** Which endpoint a call goes to: in turn, by load, by latency, by weight, by zone, or by a key. */
export * as Balancer from "./Balancer.ts"
/** Why a call failed, and whether its handler may have run. */
export * as CallError from "./CallError.ts"
/** Typed methods: contracts that client and server share, their clients and their handlers. */
export * as Component from "./Component.ts"
/** A client's connection to a service: it finds replicas, balances calls, and goes around replicas that fail. */
export * as Connection from "./Connection.ts"
/** A time limit for everything inside, which travels with the calls to other processes. */
export * as Deadline from "./Deadline.ts"
/** How to reach one replica: its address and how it is dialed, over TCP, Unix sockets or mTLS. */
export * as Endpoint from "./Endpoint.ts"
/** Which handler serves which method of a server. */
export * as HandlerMap from "./HandlerMap.ts"
/** Whether a server is ready for calls, for its clients and for the probes of Kubernetes. */
export * as Health from "./Health.ts"
/** Where a server accepts connections: TCP, Unix sockets or mTLS. */
export * as Listener from "./Listener.ts"
/** The name of a method on the wire, for calls of bytes. */
export * as MethodKey from "./MethodKey.ts"
/** Which replicas a service has, now and later: from DNS, Kubernetes, a directory, or your program. */
export * as Resolver from "./Resolver.ts"
/** Serves calls: it runs handlers, limits how many run, and lets them finish when it stops. */
export * as Server from "./Server.ts"
