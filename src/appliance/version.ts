// SPDX-License-Identifier: Apache-2.0
//
// The version of this executable, as people, the API and other units see it. It is written here and
// not read from package.json, because the compiled executable carries no such file; a test keeps
// the two equal.

export const VERSION = "0.1.0";

/**
 * What units say they can do; the cluster commits to the lowest (design: feature level). 2: volumes
 * grow.
 */
export const FEATURE_LEVEL = 2;
