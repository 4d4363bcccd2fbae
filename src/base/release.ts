// SPDX-License-Identifier: Apache-2.0
//
// Versions of releases: three numbers with dots, the only form that the boot loader (UAPI version
// format) and we put in the same order. Semantic Versioning's pre-releases sort differently there.

const VERSION = /^\d{1,6}\.\d{1,6}\.\d{1,6}$/;

export function isVersion(text: string): boolean {
  return VERSION.test(text);
}

/** Less than 0: `one` is older. Both must be versions. */
export function compareVersions(one: string, other: string): number {
  const right = other.split(".").map(Number);
  for (const [at, number] of one.split(".").map(Number).entries()) {
    const difference = number - (right[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
