/**
 * The name of a method in texts: errors, logs and defects. The key of the method on the wire is the hash of the same
 * text. It does not know how that is computed.
 */

/** `component.method`. */
export const methodName = ({ component, method }: { readonly component: string; readonly method: string }): string =>
  `${component}.${method}`
