// SPDX-License-Identifier: Apache-2.0
//
// Mutants (mutants.ts) of slices that grow (H11).

import { SLICE_BYTES_MAX } from "#base/grains.ts";
import { Head } from "#raid/head.ts";
import { SliceState } from "#store/metadata.ts";
import { type Mutant, patch, patchGetter } from "./mutant.ts";

export const growing: readonly Mutant[] = [
  {
    name: "served-before-stored",
    sentence: "a head serves what a record adds before it knows or has stored the record",
    install: () => patchGetter(Head.prototype, "servedBytes", () => SLICE_BYTES_MAX),
  },
  {
    name: "growth-forgotten",
    sentence: "a member stores a larger record and stays as small as it was",
    install: () => {
      let count = 0;
      return patch(
        SliceState.prototype,
        "growTo",
        (original) =>
          function (this: SliceState, sizeBytes: number) {
            if (++count % 2 !== 0) original.call(this, sizeBytes);
          },
      );
    },
  },
];
