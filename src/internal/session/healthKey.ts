/**
 * The keys by which clients ask servers for their health. They are apart from what is carried, since `protocol/` is
 * pure.
 */
import * as MethodKey from "../../MethodKey.ts"
import { component, method, streamMethod } from "../protocol/health.ts"

/** The stream, where both know streams. */
export const changesKey = MethodKey.make(component, streamMethod)

/** The method, for others. */
export const watchKey = MethodKey.idempotent(MethodKey.make(component, method))
