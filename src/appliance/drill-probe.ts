// SPDX-License-Identifier: Apache-2.0
//
// A drill's host, in the reactor: it writes to a canary volume and reads from it through the same
// forwarder, slices and stores that hosts use, holds every byte against what it wrote, and measures
// how long it waited. It goes on with its ticks; it owns no timer and no socket.
//
// Invariants
// - One write and one read are under way at most; the read is of another block than the write.
// - A block holds what was acked last, or one of the later writes whose end is not known (H7, H8).
// - A wait counts from the last answer, or from the start, to the next one, also while none comes.

import { assert } from "#base/assert.ts";
import { crc32 } from "#base/checksum.ts";
import { BLOCK_BYTES } from "#base/grains.ts";
import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { Operation, OperationKind } from "#base/operation.ts";
import type { OperationTarget } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { Clock } from "#base/world.ts";

/** Blocks that are written to, in turn: few enough to be read back at once at the end. */
export const PROBE_BLOCKS_MAX = 1024;
/** Requests of a kind between two ticks: it is a probe, no load. */
const PER_TICK_MAX = 8;
/** The same, of the last reading of all. */
const CHECKED_PER_TICK_MAX = 128;
/** A block's first bytes: what it is and which write it was. */
const HEAD_BYTES = 16;
const MAGIC = 0x6c6c7264;

export interface ProbeFacts {
  writes: number;
  reads: number;
  errors: number;
  wrongBlocks: number;
  /** The longest wait for an answer so far, ms. */
  gapMs: number;
  /** How long ago the last answer came, ms; null: none came yet. */
  silentMs: number | null;
  /** Blocks read back right, once it has ended; null: it has not. */
  verifiedBlocks: number | null;
}

export interface ProbeParts {
  clock: Pick<Clock, "nowMs">;
  memory: Memory;
  target: OperationTarget;
}

interface Block {
  /** What it holds for sure if nothing else is possible; 0: nothing was written. */
  acked: number;
  /** Writes after that one, whose end is not known. */
  possible: number[];
}

export class DrillProbe {
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #memory: Memory;
  readonly #target: OperationTarget;
  readonly #blocks: Block[];
  readonly #write = new Operation();
  readonly #read = new Operation();
  #writeBuffer: number;
  #readBuffer: number;
  /** -1: none is under way. */
  #writing = -1;
  #reading = -1;
  #sequence = 0;
  #cursor = 0;
  #leftThisTick = { writes: 0, reads: 0, checks: 0 };
  #answeredMs: number;
  #hasAnswer = false;
  #gapMs = 0;
  #writes = 0;
  #reads = 0;
  #errors = 0;
  #wrong = 0;
  /** The next block of the last reading; null: it still probes. */
  #checking: number | null = null;
  #verified = 0;
  #isOver = false;
  #isBroken = false;

  /** Answers null where there is no memory for two blocks: busy. */
  static start(parts: ProbeParts, sizeBytes: number): DrillProbe | null {
    const { memory } = parts;
    const writeBuffer = memory.allocate(BLOCK_BYTES);
    if (writeBuffer === NO_BUFFER) return null;
    const readBuffer = memory.allocate(BLOCK_BYTES);
    if (readBuffer === NO_BUFFER) {
      memory.release(writeBuffer);
      return null;
    }
    return new DrillProbe(parts, { sizeBytes, writeBuffer, readBuffer });
  }

  private constructor(
    parts: ProbeParts,
    own: { sizeBytes: number; writeBuffer: number; readBuffer: number },
  ) {
    this.#memory = parts.memory;
    this.#target = parts.target;
    this.#clock = parts.clock;
    this.#answeredMs = parts.clock.nowMs();
    this.#writeBuffer = own.writeBuffer;
    this.#readBuffer = own.readBuffer;
    const blocks = Math.min(PROBE_BLOCKS_MAX, Math.floor(own.sizeBytes / BLOCK_BYTES));
    assert(blocks >= 2, "a canary has blocks to write and to read");
    this.#blocks = Array.from({ length: blocks }, () => ({ acked: 0, possible: [] }));
    this.#write.done = (ended) => this.#written(ended.status);
    this.#read.done = (ended) => this.#readEnded(ended.status);
  }

  facts(): ProbeFacts {
    const silentMs = this.#clock.nowMs() - this.#answeredMs;
    return {
      writes: this.#writes,
      reads: this.#reads,
      errors: this.#errors,
      wrongBlocks: this.#wrong,
      gapMs: Math.round(Math.max(this.#gapMs, this.#isOver ? 0 : silentMs)),
      silentMs: this.#hasAnswer ? Math.round(silentMs) : null,
      verifiedBlocks: this.#isOver ? this.#verified : null,
    };
  }

  /** Nothing of it is under way any more; its buffers are given back. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** No further writes: every block that was written is read once more, then it is over. */
  finish(): void {
    this.#checking ??= 0;
  }

  /** Its answers are of no use any more: it is over once the last one came. */
  abandon(): void {
    this.#isBroken = true;
    this.#write.cancelled = true;
    this.#read.cancelled = true;
  }

  /** Every 50 ms or so. */
  tick(): void {
    const checks = CHECKED_PER_TICK_MAX;
    this.#leftThisTick = { writes: PER_TICK_MAX, reads: PER_TICK_MAX, checks };
    this.#pump();
  }

  #pump(): void {
    if (this.#isOver) return;
    const isIdle = this.#writing < 0 && this.#reading < 0;
    if (this.#isBroken) {
      if (isIdle) this.#end();
      return;
    }
    if (this.#checking !== null) {
      // The last write first: its block is read as well.
      if (isIdle && this.#leftThisTick.checks > 0) this.#checkNext();
      return;
    }
    if (this.#writing < 0 && this.#leftThisTick.writes > 0) this.#writeNext();
    if (this.#reading < 0 && this.#leftThisTick.reads > 0) this.#readNext();
  }

  #writeNext(): void {
    this.#leftThisTick.writes--;
    const block = this.#cursor === this.#reading ? this.#cursor + 1 : this.#cursor;
    const at = block % this.#blocks.length;
    this.#cursor = (at + 1) % this.#blocks.length;
    const sequence = ++this.#sequence;
    fillBlock(this.#memory.bytes, this.#writeBuffer, at, sequence);
    this.#writing = at;
    this.#blocks[at]?.possible.push(sequence);
    this.#submit(this.#write, OperationKind.write, at, this.#writeBuffer);
  }

  #written(status: Status): void {
    const block = this.#blocks[this.#writing];
    assert(block !== undefined, "a write ends once");
    this.#writing = -1;
    if (status === Status.ok) {
      this.#writes++;
      this.#answered();
      block.acked = this.#sequence;
      block.possible = [];
    } else if (!this.#isBroken) this.#errors++;
    this.#pump();
  }

  #readNext(): void {
    // Behind the writes: mostly what was acked just now.
    const at = (this.#cursor + this.#blocks.length - 2) % this.#blocks.length;
    if (at === this.#writing || this.#blocks[at]?.acked === 0) return;
    this.#leftThisTick.reads--;
    this.#startRead(at);
  }

  #startRead(at: number): void {
    this.#reading = at;
    this.#memory.bytes.fill(0, this.#readBuffer, this.#readBuffer + BLOCK_BYTES);
    this.#submit(this.#read, OperationKind.read, at, this.#readBuffer);
  }

  #readEnded(status: Status): void {
    const at = this.#reading;
    const block = this.#blocks[at];
    assert(block !== undefined, "a read ends once");
    this.#reading = -1;
    if (status === Status.ok) {
      this.#reads++;
      this.#answered();
      const sequence = sequenceIn(this.#memory.bytes, this.#readBuffer, at);
      const isRight =
        sequence !== null && (sequence === block.acked || block.possible.includes(sequence));
      if (!isRight) this.#wrong++;
      else if (this.#checking !== null) this.#verified++;
      // What was observed stays: it, or a later one (H1).
      if (isRight && sequence !== block.acked) {
        block.possible = block.possible.filter((later) => later > sequence);
        block.acked = sequence;
      }
    } else if (!this.#isBroken) this.#errors++;
    this.#pump();
  }

  #checkNext(): void {
    let at = this.#checking ?? 0;
    while (at < this.#blocks.length && isUntouched(this.#blocks[at])) at++;
    if (at >= this.#blocks.length) return this.#end();
    this.#checking = at + 1;
    this.#leftThisTick.checks--;
    this.#startRead(at);
  }

  #end(): void {
    this.#isOver = true;
    this.#memory.release(this.#writeBuffer);
    this.#memory.release(this.#readBuffer);
    this.#writeBuffer = NO_BUFFER;
    this.#readBuffer = NO_BUFFER;
  }

  #answered(): void {
    const nowMs = this.#clock.nowMs();
    this.#gapMs = Math.max(this.#gapMs, nowMs - this.#answeredMs);
    this.#answeredMs = nowMs;
    this.#hasAnswer = true;
  }

  #submit(operation: Operation, kind: OperationKind, block: number, buffer: number): void {
    operation.kind = kind;
    operation.offsetBytes = block * BLOCK_BYTES;
    operation.lengthBytes = BLOCK_BYTES;
    operation.bufferOffset = buffer;
    operation.flags = 0;
    this.#target.submit(operation);
  }
}

function isUntouched(block: Block | undefined): boolean {
  return block === undefined || (block.acked === 0 && block.possible.length === 0);
}

/** Magic, block, sequence, hash of these; the same over all of the block. */
function fillBlock(bytes: Uint8Array, offset: number, block: number, sequence: number): void {
  const words = new Uint32Array([MAGIC, block, sequence]);
  const head = new Uint32Array([...words, hashOf(words)]);
  const pattern = new Uint8Array(head.buffer);
  for (let at = 0; at < BLOCK_BYTES; at += HEAD_BYTES) bytes.set(pattern, offset + at);
}

/** The write that left these bytes there; null: none of ours did, or not all of it. */
function sequenceIn(bytes: Uint8Array, offset: number, block: number): number | null {
  const words = new Uint32Array(bytes.slice(offset, offset + BLOCK_BYTES).buffer);
  const [magic, named, sequence = 0, hash] = words;
  if (magic !== MAGIC || named !== block) return null;
  if (hash !== hashOf(words.subarray(0, 3))) return null;
  const each = HEAD_BYTES / Uint32Array.BYTES_PER_ELEMENT;
  return words.every((word, at) => word === words[at % each]) ? sequence : null;
}

function hashOf(words: Uint32Array): number {
  return crc32(new Uint8Array(words.buffer, words.byteOffset, words.byteLength));
}
