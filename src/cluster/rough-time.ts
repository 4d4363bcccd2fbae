// SPDX-License-Identifier: Apache-2.0
//
// A time as people say it when it need not be exact: never less than it is.

const STEPS = [
  { name: "s", ms: 1000, upTo: 120 },
  { name: "min", ms: 60_000, upTo: 120 },
  { name: "h", ms: 3_600_000, upTo: 48 },
  { name: "d", ms: 86_400_000, upTo: Number.POSITIVE_INFINITY },
] as const;

/** 45,000 reads "45 s", 600,000 "10 min", 200,000,000 "3 d"; rounded up. */
export function roughTime(ms: number): string {
  const step = STEPS.find((each) => Math.ceil(ms / each.ms) <= each.upTo) ?? STEPS[3];
  return `${Math.max(0, Math.ceil(ms / step.ms))} ${step.name}`;
}
