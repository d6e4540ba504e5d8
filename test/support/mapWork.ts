/** How much is put into maps, for what is to take no more than its share of it: counted, since times vary. */

/** How many entries are put into maps, copies of them included, while `f` runs. */
export const entriesSet = (f: () => void): number => {
  const { prototype } = Map
  const given = Object.getOwnPropertyDescriptor(prototype, "set")!
  const set = given.value as Map<unknown, unknown>["set"]
  let count = 0
  Object.defineProperty(prototype, "set", {
    ...given,
    value(this: Map<unknown, unknown>, key: unknown, value: unknown) {
      count++
      return set.call(this, key, value)
    }
  })
  try {
    f()
  } finally {
    Object.defineProperty(prototype, "set", given)
  }
  return count
}
