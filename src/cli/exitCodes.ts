/** What the command ends with, beside 0; what is interrupted ends with 130. */
export const exitCodes = {
  /** The call failed, or the resolver did. */
  failed: 1,
  /** Nothing was called, since something is wrong with what the command was given. */
  usage: 2
} as const
