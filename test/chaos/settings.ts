/**
 * The soak's figures: who takes part in it, how long things may take, and how often what goes wrong.
 */
import { Balancer } from "effect-call"
import type { FaultName } from "./faultName.ts"
import type { ReplicaSpec } from "./replicas.ts"
import type { SlotSpec } from "./slots.ts"

const shutdownGrace = 400

// Sooner than by default, so that a client that vanishes is found within what a recovery may take.
const keepAlive = { interval: 1000, timeout: 1000 }

export const replicas: ReadonlyArray<ReplicaSpec> = [
  { name: "a", transport: "tcp", proxied: false, server: { shutdownGrace, keepAlive } },
  { name: "b", transport: "unix", proxied: false, server: { shutdownGrace, keepAlive } },
  { name: "c", transport: "tcp", proxied: true, server: { shutdownGrace, keepAlive } },
  { name: "d", transport: "mtls", proxied: true, server: { shutdownGrace, keepAlive } },
  // It is soon overloaded.
  {
    name: "e",
    transport: "unix",
    proxied: true,
    server: { shutdownGrace, keepAlive, maxConcurrentCalls: 16, maxQueuedCalls: 8 }
  }
]

const habits = { typed: 0.3, keyed: 0, waiting: 0.3, untimed: 0.1, streams: 0.1 }

// Sooner than by default, so that all of it happens often.
const options = {
  dialTimeout: 1000,
  backoff: { initial: 20, max: 500 },
  keepAlive,
  outlierEjection: { duration: 500, maxDuration: 2000 }
}

const lifetime = { least: 5000, most: 30_000 }

const mebibyte = 2 ** 20

export const slots: ReadonlyArray<SlotSpec> = [
  { name: "plain", habits, options, lifetime, format: "binary" },
  {
    name: "three connections",
    habits,
    options: { ...options, connectionsPerEndpoint: 3 },
    lifetime,
    format: "binary"
  },
  {
    name: "sharded",
    habits: { ...habits, keyed: 0.8 },
    options: { ...options, balancer: Balancer.sharded },
    lifetime,
    format: "json"
  },
  {
    name: "sharded, three connections",
    habits: { ...habits, keyed: 0.5, typed: 0.7 },
    options: { ...options, balancer: Balancer.sharded, connectionsPerEndpoint: 3, writeFlattenLimit: 1024 },
    lifetime,
    format: "binary"
  },
  // What is larger than it allows is refused by itself.
  {
    name: "small, waiting",
    habits: { ...habits, waiting: 1, untimed: 0.3 },
    options: { ...options, maxMessageSize: mebibyte, writeFlattenLimit: mebibyte },
    lifetime,
    format: "binary"
  },
  {
    name: "short-lived",
    habits: { ...habits, waiting: 0.5 },
    options: { ...options, connectionsPerEndpoint: 2 },
    lifetime: { least: 100, most: 1500 },
    format: "binary"
  }
]

/** How often each fault befalls a replica, relative to the others. */
export const faultWeights: Readonly<Partial<Record<FaultName, number>>> = { kill: 3, stop: 3, freeze: 3, move: 2 }

/** What may befall one behind a proxy, too. */
export const proxyFaultWeights: typeof faultWeights = {
  ...faultWeights,
  cut: 6,
  delay: 2,
  split: 2,
  blackHole: 4,
  refuse: 1,
  vanish: 2
}

/** The time between two faults of a replica, in ms. */
export const respite = { least: 100, most: 2000 }

/** For how long callers pause between calls, in ms, on average. */
export const pauseMillis = 80

/** For how long there are calls without faults, before and after those with, in ms. */
export const calm = 2000

/** How often a caller makes many calls at once, and how many at most. */
export const burst = { chance: 0.01, most: 20 }
