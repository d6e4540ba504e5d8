/** The faults of the soak by name: settings weigh them, and reports count them. */

export type FaultName =
  | "kill"
  | "stop"
  | "freeze"
  | "move"
  | "cut"
  | "delay"
  | "split"
  | "blackHole"
  | "refuse"
  | "vanish"
