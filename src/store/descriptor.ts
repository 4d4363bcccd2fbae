// SPDX-License-Identifier: Apache-2.0
//
// The descriptor of a mapped extent: a checksum for each of its 256 blocks, or that the block was
// never written (R9). In memory while it is needed, on disk in two slots that are written in turn.
//
// Invariants:
// - A block is *fresh* from its first write on until its data was flushed. On disk a fresh block is
//   still unwritten: otherwise a power cut could leave a checksum for bytes that never came, and
//   the bytes there are whatever the extent's earlier owner left (H9).
// - The first writing of a mapping's descriptor fills both slots, later ones the older slot;
//   between two writings lies a flush. So outside a power cut both slots are sound and of this
//   mapping; one that is not has rotted, and what only it could know is *lost*, which reads as
//   damaged, never as zero (H8). After a power cut, in an active region, the sound slot is the
//   truth, if the other one was read: torn it may be, unreadable it says nothing.
// - A block that holds nothing any more, or is lost, is so in *both* slots before a flush is done
//   (`owesTwin`): the bytes it had are still there, and the older slot's checksum matches them;
//   with the newer one gone they would be read again (H8, H9).
// - What is known without a slot that could not be read (*unsure*) is asked for again whenever the
//   descriptor is needed anew, and once more before it is written: a disk that fails to read for a
//   while forgets nothing by it (H8).

import { UNWRITTEN } from "#base/checksum.ts";
import { BLOCKS_PER_EXTENT } from "#base/grains.ts";
import type { SliceNumber } from "#base/record.ts";
import {
  DESCRIPTOR,
  DESCRIPTOR_CHECKSUMS_AT,
  DESCRIPTOR_PAIR_BYTES,
  PAGE_BYTES,
  PageKind,
} from "./format.wire.ts";
import { PageState, examinePage, pageUsedBytes, sealPage, u32At } from "./page.ts";
import type { PageIdentity } from "./page.ts";

const BITMAP_WORDS = BLOCKS_PER_EXTENT / 32;
const USED_BYTES = DESCRIPTOR_CHECKSUMS_AT + 4 * BLOCKS_PER_EXTENT;

/** Whoever needs a descriptor that is not in memory yet. */
export interface DescriptorUser {
  /** The descriptor is loaded and pinned for the caller; null: the disk failed. */
  descriptorReady(descriptor: Descriptor | null): void;
}

const view = DESCRIPTOR.view();

export class Descriptor {
  readonly slice: SliceNumber;
  readonly extent: number;
  readonly physical: number;
  readonly mapping: number;
  readonly checksums = new Uint32Array(BLOCKS_PER_EXTENT);
  readonly #fresh = new Uint32Array(BITMAP_WORDS);
  readonly #lost = new Uint32Array(BITMAP_WORDS);
  /** A slot could not be read. */
  unsure = false;
  /** A slot that is read but not sound may have been torn by a crash; set before `decode`. */
  maybeTorn = false;
  /** The slot written last says nothing of a block of which the other one may say what it held. */
  owesTwin = false;
  /** Such a block came since the last writing. */
  #cleared = false;
  /** While unsure: blocks of which memory knows more than any slot. */
  readonly #touched = new Uint32Array(BITMAP_WORDS);
  /** Writings so far; 0: none yet. */
  sequence = 0;
  loaded = false;
  /** Memory holds more than the disk. */
  dirty = false;
  /** A flush cycle holds it. */
  writing = false;
  /** Operations that use it now: it stays in memory, and its extent is not given out again. */
  pins = 0;
  /** The extent was freed. */
  dead = false;
  /** Who waits until it is loaded. */
  readonly waiters: DescriptorUser[] = [];
  /** Neighbours in the cache's list of those that may go; null at the ends and outside. */
  older: Descriptor | null = null;
  newer: Descriptor | null = null;
  listed = false;
  /** Since the cache last looked at it. */
  used = false;

  constructor(slice: SliceNumber, extent: number, physical: number, mapping: number) {
    this.slice = slice;
    this.extent = extent;
    this.physical = physical;
    this.mapping = mapping;
  }

  isWritten(block: number): boolean {
    return this.checksums[block] !== UNWRITTEN;
  }

  /** Nobody knows whether the block was written: damaged. */
  isLost(block: number): boolean {
    return this.checksums[block] === UNWRITTEN && bit(this.#lost, block);
  }

  /** A write of the whole block has completed. */
  setWritten(block: number, checksum: number): void {
    if (this.checksums[block] === UNWRITTEN) setBit(this.#fresh, block);
    this.checksums[block] = checksum;
    setBit(this.#touched, block);
  }

  /** The block reads zero from now on. Answers whether that changed anything. */
  setUnwritten(block: number): boolean {
    const changed = this.checksums[block] !== UNWRITTEN || bit(this.#lost, block);
    this.checksums[block] = UNWRITTEN;
    clearBit(this.#fresh, block);
    clearBit(this.#lost, block);
    setBit(this.#touched, block);
    this.#cleared ||= changed;
    return changed;
  }

  /** Whatever the block held, nobody can give it: damaged, until it is written (H8). */
  setLost(block: number): void {
    this.checksums[block] = UNWRITTEN;
    clearBit(this.#fresh, block);
    setBit(this.#lost, block);
    setBit(this.#touched, block);
    this.#cleared = true;
  }

  hasFresh(): boolean {
    for (let word = 0; word < BITMAP_WORDS; word++) if (this.#fresh[word] !== 0) return true;
    return false;
  }

  /**
   * The data written so far will be flushed before the descriptor is: nothing is fresh any more.
   */
  clearFresh(): void {
    this.#fresh.fill(0);
  }

  /**
   * Puts what the disk is to hold at `target`. Answers where in the pair it belongs and how long it
   * is: both slots the first time. Is to be called again after a flush while `owesTwin`.
   */
  encode(
    target: Uint8Array,
    start: number,
    stamp: number,
    identity: PageIdentity,
  ): { at: number; lengthBytes: number } {
    this.owesTwin = this.#cleared && this.sequence !== 0;
    this.#cleared = false;
    if (this.sequence === 0) {
      // The slot is the sequence's parity: 1 goes to slot B, 2 to slot A.
      this.sequence = 2;
      this.#encodeSlot(target, start, stamp, identity);
      this.sequence = 1;
      this.#encodeSlot(target, start + PAGE_BYTES, stamp, identity);
      this.sequence = 2;
      return { at: 0, lengthBytes: DESCRIPTOR_PAIR_BYTES };
    }
    this.sequence++;
    this.#encodeSlot(target, start, stamp, identity);
    return { at: (this.sequence % 2) * PAGE_BYTES, lengthBytes: PAGE_BYTES };
  }

  /**
   * Takes in what the disk holds: both slots at `start`; `unreadable` when one of them could not be
   * read and is zero here. Answers whether both slots were as they should be, and whether what is
   * not may be the work of a crash and is to be written again.
   */
  decode(
    source: Uint8Array,
    start: number,
    identity: PageIdentity,
    unreadable: boolean,
  ): { whole: boolean; torn: boolean } {
    this.unsure = unreadable;
    // H8: only bytes that were read can show that a crash tore them. A slot the disk could not read
    // may hold what was acked.
    const torn = this.maybeTorn && !unreadable;
    const first = this.#slotSequence(source, start, 0, identity);
    const second = this.#slotSequence(source, start + PAGE_BYTES, 1, identity);
    const best = Math.max(first, second);
    const whole = first !== 0 && second !== 0;
    this.loaded = true;
    this.sequence = best;
    if (best !== 0) this.#take(source, start + (best === first ? 0 : PAGE_BYTES));
    if (!whole && !torn) this.#lose();
    // A crash came between the two writings of what was cleared.
    const other = start + (best === first ? PAGE_BYTES : 0);
    if (whole && torn) this.#cleared = this.#forgot(source, other);
    return { whole, torn: torn && (!whole || this.#cleared) };
  }

  /** Whether the slot at `at` knows what a block held that holds nothing now. */
  #forgot(source: Uint8Array, at: number): boolean {
    for (let block = 0; block < BLOCKS_PER_EXTENT; block++) {
      if (this.checksums[block] !== UNWRITTEN) continue;
      if (u32At(source, at + DESCRIPTOR_CHECKSUMS_AT + 4 * block) !== UNWRITTEN) return true;
    }
    return false;
  }

  /** Both slots, read again at `start` just before an unsure descriptor is written. */
  learn(source: Uint8Array, start: number, identity: PageIdentity): void {
    const found = new Descriptor(this.slice, this.extent, this.physical, this.mapping);
    found.maybeTorn = this.maybeTorn;
    found.decode(source, start, identity, false);
    this.sequence = found.sequence;
    for (let block = 0; block < BLOCKS_PER_EXTENT; block++) {
      const touched = bit(this.#touched, block);
      if (!touched) this.checksums[block] = found.checksums[block] as number;
      // Not its first write after all: what was flushed before must not read zero (H6).
      else if (found.isWritten(block)) clearBit(this.#fresh, block);
      if (touched && this.isLost(block)) continue; // by order, not for want of the slot
      if (!found.isLost(block)) clearBit(this.#lost, block);
      else if (!touched) setBit(this.#lost, block);
    }
    this.unsure = false;
  }

  /**
   * What the disk holds of it, both slots at `start`: `same`, when they are sound and the newer one
   * says what memory does. To be asked only while memory and disk should agree.
   */
  matchesSlots(source: Uint8Array, start: number, identity: PageIdentity): boolean {
    const found = new Descriptor(this.slice, this.extent, this.physical, this.mapping);
    const { whole } = found.decode(source, start, identity, false);
    if (!whole || found.sequence !== this.sequence) return false;
    for (let block = 0; block < BLOCKS_PER_EXTENT; block++) {
      if (found.checksums[block] !== this.checksums[block]) return false;
      if (found.isLost(block) !== this.isLost(block)) return false;
    }
    return true;
  }

  /** Blocks of which only the missing slot could say whether they were written. */
  #lose(): void {
    for (let block = 0; block < BLOCKS_PER_EXTENT; block++) {
      if (this.checksums[block] === UNWRITTEN) setBit(this.#lost, block);
    }
  }

  #take(source: Uint8Array, at: number): void {
    for (let block = 0; block < BLOCKS_PER_EXTENT; block++) {
      this.checksums[block] = u32At(source, at + DESCRIPTOR_CHECKSUMS_AT + 4 * block);
    }
    const lost = view.at(source, at).lost;
    for (let word = 0; word < BITMAP_WORDS; word++) this.#lost[word] = u32At(lost, 4 * word);
  }

  /** The slot's sequence, or 0 when it is not a sound slot of this very mapping. */
  #slotSequence(source: Uint8Array, at: number, slot: number, identity: PageIdentity): number {
    if (examinePage(source, at, PageKind.descriptor, identity) !== PageState.ok) return 0;
    if (pageUsedBytes(source, at) !== USED_BYTES) return 0;
    view.at(source, at);
    if (view.mapping !== this.mapping || view.physical !== this.physical) return 0;
    if (view.slice !== this.slice || view.extent !== this.extent) return 0;
    return view.sequence % 2 === slot && view.sequence !== Number.POSITIVE_INFINITY
      ? view.sequence
      : 0;
  }

  #encodeSlot(target: Uint8Array, at: number, stamp: number, identity: PageIdentity): void {
    target.fill(0, at, at + PAGE_BYTES);
    view.at(target, at);
    view.slice = this.slice;
    view.extent = this.extent;
    view.physical = this.physical;
    view.stamp = stamp;
    view.mapping = this.mapping;
    view.sequence = this.sequence;
    const data = new DataView(target.buffer, target.byteOffset, target.byteLength);
    for (let block = 0; block < BLOCKS_PER_EXTENT; block++) {
      const fresh = bit(this.#fresh, block);
      const checksum = fresh ? UNWRITTEN : (this.checksums[block] as number);
      data.setUint32(at + DESCRIPTOR_CHECKSUMS_AT + 4 * block, checksum, true);
    }
    const lostAt = at + 64;
    for (let word = 0; word < BITMAP_WORDS; word++) {
      data.setUint32(lostAt + 4 * word, this.#lost[word] as number, true);
    }
    sealPage(target, at, PageKind.descriptor, USED_BYTES, identity);
  }
}

function bit(words: Uint32Array, index: number): boolean {
  return (((words[index >>> 5] as number) >>> (index & 31)) & 1) === 1;
}

function setBit(words: Uint32Array, index: number): void {
  words[index >>> 5] = (words[index >>> 5] as number) | (1 << (index & 31));
}

function clearBit(words: Uint32Array, index: number): void {
  words[index >>> 5] = (words[index >>> 5] as number) & ~(1 << (index & 31));
}
