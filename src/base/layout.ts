// SPDX-License-Identifier: Apache-2.0
//
// The shapes of protection: what placement counts with. How a shape keeps its members equal is
// raid's.

export interface Layout {
  readonly name: string;
  /** Members a slice has. */
  readonly copies: number;
  /** Members that may be lost while every acked byte stays. */
  readonly losses: number;
  /** One sentence for a person. */
  readonly sentence: string;
}

export const layouts = {
  none: {
    name: "none",
    copies: 1,
    losses: 0,
    sentence: "one copy; the loss of its disk loses the data",
  },
  "mirror-2": {
    name: "mirror-2",
    copies: 2,
    losses: 1,
    sentence: "two copies on two units; any one unit may be lost",
  },
  "mirror-3": {
    name: "mirror-3",
    copies: 3,
    losses: 2,
    sentence: "three copies on three units; any two units may be lost",
  },
} as const satisfies Record<string, Layout>;

export type Protection = keyof typeof layouts;

export function isProtection(name: string): name is Protection {
  return Object.hasOwn(layouts, name);
}
