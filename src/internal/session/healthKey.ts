/**
 * The key of the method by which clients ask servers for their health. It is apart from what the method carries, since
 * `protocol/` is pure.
 */
import * as MethodKey from "../../MethodKey.ts"
import { component, method } from "../protocol/health.ts"

export const watchKey = MethodKey.idempotent(MethodKey.make(component, method))
