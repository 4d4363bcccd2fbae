// SPDX-License-Identifier: Apache-2.0
//
// What a mutant is: a mistake that a build could make, made by patching the product from outside.

/** What a mutant needs of the run it spoils. */
export interface MutantWorld {
  after(delayMs: number, act: () => void): void;
}

export interface Mutant {
  name: string;
  /** The mistake, in words. */
  sentence: string;
  /** Makes the mistake; the answer unmakes it. */
  install(world: MutantWorld): () => void;
}

/** Replaces one method; the answer puts the old one back. */
export function patch<T extends object, K extends keyof T>(
  owner: T,
  name: K,
  make: (original: T[K]) => T[K],
): () => void {
  const original = Object.getOwnPropertyDescriptor(owner, name) as PropertyDescriptor;
  const value = make(original.value as T[K]);
  Object.defineProperty(owner, name, { ...original, value });
  return () => Object.defineProperty(owner, name, original);
}

/** Replaces a getter. */
export function patchGetter<T extends object>(
  owner: T,
  name: keyof T,
  get: () => unknown,
): () => void {
  const original = Object.getOwnPropertyDescriptor(owner, name) as PropertyDescriptor;
  Object.defineProperty(owner, name, { ...original, get });
  return () => Object.defineProperty(owner, name, original);
}
