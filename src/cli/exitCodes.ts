/**
 * The exit codes of the command other than 0. A command that is interrupted ends with 130. This file does not know when
 * they are used.
 */
export const exitCodes = {
  /** The call failed, or the resolver did. */
  failed: 1,
  /** Nothing was called, since the command's input is wrong. */
  usage: 2
} as const
