/**
 * What rounds say about a ratio, and how certain that is.
 */

export interface MeanRatio {
  readonly ratio: number
  /** The ends of the interval of 95 % confidence. */
  readonly lowest: number
  readonly highest: number
}

/** What 95 % of the normal distribution are within, in standard deviations. */
const normal = 1.959964

/** The same of Student's distribution: its expansion by the degrees of freedom, right to 1 % from 3 of them on. */
const student = (freedom: number): number =>
  normal +
  (normal ** 3 + normal) / (4 * freedom) +
  (5 * normal ** 5 + 16 * normal ** 3 + 3 * normal) / (96 * freedom ** 2) +
  (3 * normal ** 7 + 19 * normal ** 5 + 17 * normal ** 3 - 15 * normal) / (384 * freedom ** 3)

/** The geometric mean of ratios, so that 1/2 and 2 are equally far from 1. Of fewer than two it has no interval. */
export const meanRatio = (ratios: ReadonlyArray<number>): MeanRatio => {
  const logarithms = ratios.map(Math.log)
  const count = logarithms.length
  const mean = logarithms.reduce((total, value) => total + value, 0) / count
  const variance = logarithms.reduce((total, value) => total + (value - mean) ** 2, 0) / (count - 1)
  const half = student(count - 1) * Math.sqrt(variance / count)
  return { ratio: Math.exp(mean), lowest: Math.exp(mean - half), highest: Math.exp(mean + half) }
}
