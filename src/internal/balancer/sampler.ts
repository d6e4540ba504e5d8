/**
 * Draws an endpoint at random by weight, at a cost that does not depend on the number of endpoints. It knows weights
 * only.
 *
 * It is Walker's alias method. Each endpoint has a column of the same height. A light endpoint does not fill its
 * column; the rest of the column belongs to a heavy one. A random number names a column and a height in it.
 */

/** Draws from a list of weights. */
export class Sampler {
  /** The indices, in the whole list, of the endpoints that can be drawn; undefined if all can be drawn. */
  private readonly indices: Int32Array | undefined
  readonly size: number
  /**
   * The part of each column that belongs to its own endpoint, and the owner of the rest; undefined if all weights are
   * equal.
   */
  private readonly own: Float64Array | undefined
  private readonly alias: Int32Array | undefined

  /** `weights` are the weights of the whole list. */
  constructor(weights: Float64Array, indices?: Int32Array) {
    this.indices = indices
    const mine = indices === undefined ? weights : Float64Array.from(indices, (index) => weights[index] ?? 0)
    this.size = mine.length
    if (mine.every((weight) => weight === mine[0])) return

    const { length } = mine
    const total = mine.reduce((sum, weight) => sum + weight, 0)
    const own = mine.map((weight) => weight * length / total)
    const alias = Int32Array.from(own, (_, column) => column)
    const light: Array<number> = []
    const heavy: Array<number> = []
    own.forEach((height, column) => (height < 1 ? light : heavy).push(column))
    while (true) {
      const from = heavy.at(-1)
      const to = light.pop()
      // A column that is left over is full, except for rounding.
      if (from === undefined || to === undefined) break
      alias[to] = from
      const height = (own[from] ?? 0) - (1 - (own[to] ?? 0))
      own[from] = height
      if (height < 1) {
        heavy.pop()
        light.push(from)
      }
    }
    for (const column of [...light, ...heavy]) own[column] = 1
    this.own = own
    this.alias = alias
  }

  /** The index, in the whole list, of the endpoint at `position` among the endpoints that can be drawn. */
  at(position: number): number {
    return this.indices === undefined ? position : this.indices[position] ?? 0
  }

  /** Draws a position by weight. `uniform` is from 0 to 1, exclusive. */
  draw(uniform: number): number {
    const scaled = uniform * this.size
    const column = Math.floor(scaled)
    const { alias, own } = this
    return own === undefined || alias === undefined || scaled - column < (own[column] ?? 1)
      ? column
      : alias[column] ?? 0
  }

  /** Draws a position other than `not`, all with the same probability. There must be at least two. */
  drawOther(uniform: number, not: number): number {
    const position = Math.floor(uniform * (this.size - 1))
    return position >= not ? position + 1 : position
  }
}
