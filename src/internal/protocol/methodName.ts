/**
 * The name of a method in texts: errors, logs and metrics. It is also the text whose hash is the key of the method on the wire.
 */

/** `component.method`. */
export const methodName = ({ component, method }: { readonly component: string; readonly method: string }): string =>
  `${component}.${method}`
