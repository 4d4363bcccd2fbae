// SPDX-License-Identifier: Apache-2.0
//
// Ring: one io_uring, owned by the thread that made it (SINGLE_ISSUER). Linux 6.1 at least.
//
// Invariants:
// - The kernel touches both queues only inside our own io_uring_enter: submissions are taken there
//   (no SQPOLL), completions are posted there (DEFER_TASKRUN). So plain loads and stores are
//   enough.
// - Every submission owns a slot until its last completion; the slot's number is its user_data. A
//   slot holds the target to tell and the target's own tag: no closure and no object per I/O.
// - Whether completions wait to be posted stands in the submission ring's flags (TASKRUN_FLAG): to
//   look there costs no call.
// - Submissions that no longer fit are handed to the kernel at once; completions are never dropped
//   by it (FEAT_NODROP: overflow waits in the kernel for the next enter).

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { mapMemory, mappedBytes } from "./arena.ts";
import {
  CQE,
  CQE_FLAG,
  CQE_WORDS,
  ENTER,
  FEATURE,
  GETEVENTS_ARG,
  MMAP_SQES,
  MMAP_SQ_RING,
  REGISTER_IOWQ_MAX_WORKERS,
  REGISTER_RING_FDS,
  REGISTER_RING_FDS_UNDO,
  RING_PARAMS,
  RSRC_UPDATE,
  SETUP,
  SQE,
  SQE_WORDS,
  SQ_FLAG,
  SYS_IO_URING_ENTER,
  SYS_IO_URING_REGISTER,
  SYS_IO_URING_SETUP,
  TIMESPEC,
} from "./io-uring.wire.ts";
import { ERRNO, errno, errnoName, libc, mappedAddress } from "./libc.ts";

const ENTRIES_DEFAULT = 1024;
/** Completions that fit before the kernel must keep some back; per submission entry. */
const COMPLETIONS_PER_ENTRY = 4;
/** Submissions under way at once; FileArea and sockets stay far below by limits of their own. */
const SLOTS_MAX = 65536;
/** Threads the kernel may use for what it cannot do without waiting (per kind of work). */
const KERNEL_WORKERS_BOUNDED = 16;
const KERNEL_WORKERS_UNBOUNDED = 16;
/**
 * So long a wait for several completions may go on while there are fewer, microseconds: less than
 * what a disk or a network takes for one.
 */
const GATHER_MICROSECONDS = 50;
/** Looks at the ring's flags between two looks at the clock. */
const LOOKS = 64;
/** Pseudo target of submissions whose completion says nothing (a cancellation). */
const IGNORED_SLOT = 0xffffffff;
/** Busy answers of io_uring_enter in a row before the ring counts as broken. */
const REFUSALS_MAX = 10_000;

const PROT_READ_WRITE = 3;
const MAP_SHARED_POPULATE = 0x01 | 0x8000;
const SCRATCH_BYTES = 4096;
// Where in the scratch page each structure lies.
const SCRATCH_PARAMS = 0;
const SCRATCH_UPDATE = 128;
const SCRATCH_ARGUMENT = 192;
const SCRATCH_TIMESPEC = 256;
const SCRATCH_WORKERS = 320;

/** Who is told of a completion. `result` is the call's result, or -errno. */
export interface RingTarget {
  ringDone(tag: number, result: number, flags: number): void;
}

export class Ring {
  /** The submission entries; `prepare` answers the index of the first word of one. */
  readonly words: Uint32Array;
  /** Features in use, for the log. */
  readonly features: readonly string[];
  readonly #fd: number;
  readonly #enterFd: number;
  readonly #enterFlags: number;
  readonly #argument: number;
  readonly #scratch: Uint8Array;
  readonly #scratchAt: number;
  readonly #timespec = TIMESPEC.view();
  readonly #waitArgument = GETEVENTS_ARG.view();
  readonly #mayGather: boolean;
  readonly #submission: Uint32Array;
  readonly #completions: Int32Array;
  readonly #entries: number;
  readonly #submissionTailAt: number;
  readonly #submissionFlagsAt: number;
  readonly #completionHeadAt: number;
  readonly #completionTailAt: number;
  readonly #completionMask: number;
  readonly #cqesAt: number;
  #tail = 0;
  #unsubmitted = 0;
  readonly #targets: (RingTarget | null)[] = [];
  readonly #tags: number[] = [];
  readonly #freeSlots: number[] = [];
  #inFlight = 0;
  #refusals = 0;

  /** Throws Fault badMachine, in a sentence for the operator, where the machine cannot do it. */
  constructor(options: { entries?: number } = {}) {
    const scratchAt = mapMemory(SCRATCH_BYTES);
    const scratch = new Uint8Array(mappedBytes(scratchAt, SCRATCH_BYTES));
    this.#scratch = scratch;
    this.#scratchAt = scratchAt;
    const params = RING_PARAMS.view().at(scratch, SCRATCH_PARAMS);
    const made = setUp(options.entries ?? ENTRIES_DEFAULT, scratchAt, params);
    this.#fd = made.fd;
    this.#entries = params.sqEntries;

    const ringBytes = Math.max(
      params.cqCqes + params.cqEntries * CQE_WORDS * 4,
      params.sqArray + params.sqEntries * 4,
    );
    const rings = mapRing(made.fd, ringBytes, MMAP_SQ_RING);
    this.#submission = new Uint32Array(rings);
    this.#completions = new Int32Array(rings);
    this.words = new Uint32Array(mapRing(made.fd, params.sqEntries * SQE_WORDS * 4, MMAP_SQES));
    this.#submissionTailAt = params.sqTail / 4;
    this.#submissionFlagsAt = params.sqFlags / 4;
    this.#completionHeadAt = params.cqHead / 4;
    this.#completionTailAt = params.cqTail / 4;
    this.#completionMask = this.#submission[params.cqMask / 4] as number;
    this.#cqesAt = params.cqCqes / 4;
    if (!made.noSqArray) {
      // Before 6.6 the queue is a list of indices; ours is the identity, once and for all.
      const arrayAt = params.sqArray / 4;
      for (let i = 0; i < params.sqEntries; i++) this.#submission[arrayAt + i] = i;
    }

    const registered = registerRing(made.fd, scratch, scratchAt);
    this.#enterFd = registered ?? made.fd;
    this.#enterFlags = registered === null ? 0 : ENTER.registeredRing;
    boundWorkers(made.fd, scratch, scratchAt);
    this.#mayGather = (params.features & FEATURE.minimumWait) !== 0;
    this.features = [
      ...(made.noSqArray ? ["no-sq-array"] : []),
      ...(this.#mayGather ? ["minimum-wait"] : []),
      ...(registered === null ? [] : ["registered-ring"]),
    ];

    this.#timespec.at(scratch, SCRATCH_TIMESPEC).clear();
    this.#argument = scratchAt + SCRATCH_ARGUMENT;
    const argument = this.#waitArgument.at(scratch, SCRATCH_ARGUMENT).clear();
    argument.timespec = scratchAt + SCRATCH_TIMESPEC;
  }

  /** Submissions whose last completion is still to come. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * A submission entry for `target`, zeroed but for operation, descriptor and slot. The caller
   * fills what the operation needs into `words` before it does anything else with the ring.
   */
  prepare(opcode: number, fd: number, target: RingTarget, tag: number): number {
    let slot = this.#freeSlots.pop();
    if (slot === undefined) {
      slot = this.#targets.length;
      assert(slot < SLOTS_MAX, "submissions under way are bounded");
      this.#targets.push(null);
      this.#tags.push(0);
    }
    this.#targets[slot] = target;
    this.#tags[slot] = tag;
    this.#inFlight++;
    return this.#entry(opcode, fd, slot);
  }

  /** Like prepare for an operation nobody waits for. */
  prepareIgnored(opcode: number, fd: number): number {
    return this.#entry(opcode, fd, IGNORED_SLOT);
  }

  #entry(opcode: number, fd: number, slot: number): number {
    if (this.#unsubmitted === this.#entries) this.submit();
    const words = this.words;
    const at = (this.#tail % this.#entries) * SQE_WORDS;
    for (let i = at; i < at + SQE_WORDS; i++) words[i] = 0;
    words[at + SQE.opcode] = opcode;
    words[at + SQE.fd] = fd;
    words[at + SQE.slot] = slot;
    this.#tail = (this.#tail + 1) >>> 0;
    this.#unsubmitted++;
    return at;
  }

  /** Hands what is prepared to the kernel without waiting. */
  submit(): void {
    while (this.#unsubmitted > 0) {
      const result = this.#enter(0, this.#enterFlags, 0, 0);
      // EBUSY and EAGAIN pass once completions were taken over by the kernel's overflow list.
      if (result < 0) this.#enter(0, this.#enterFlags | ENTER.getEvents, 0, 0);
    }
  }

  /**
   * Hands what is prepared to the kernel and waits for a completion, at most `timeoutMs`; 0 only
   * collects what is there. `atLeast`: for so many, but where there are some, only for
   * GATHER_MICROSECONDS. Does not dispatch.
   */
  submitAndWait(timeoutMs: number, atLeast = 1): void {
    let minimum = timeoutMs > 0 && this.waiting === 0 ? 1 : 0;
    if (minimum === 1) {
      if (this.#mayGather) {
        minimum = atLeast;
        this.#waitArgument.minWaitMicroseconds = atLeast > 1 ? GATHER_MICROSECONDS : 0;
      }
      const nanoseconds = Math.ceil(timeoutMs * 1e6);
      this.#timespec.seconds = Math.floor(nanoseconds / 1e9);
      this.#timespec.nanoseconds = nanoseconds % 1e9;
    }
    const flags = this.#enterFlags | ENTER.getEvents | ENTER.extArg;
    // Refused, interrupted or out of time: what is prepared stays so until the next turn.
    this.#enter(minimum, flags, this.#argument, GETEVENTS_ARG.size);
  }

  /**
   * Hands what is prepared to the kernel and looks out for more than `known` completions, for
   * `limitMs` at most, without sleeping. Does not dispatch.
   */
  submitAndLook(limitMs: number, known: number): void {
    this.submitAndWait(0);
    const endMs = performance.now() + limitMs;
    while (this.waiting <= known && performance.now() < endMs) {
      if (this.#isNews()) this.submitAndWait(0);
    }
  }

  /** The kernel has something for us; a few looks. */
  #isNews(): boolean {
    for (let look = 0; look < LOOKS; look++) {
      const flags = Atomics.load(this.#submission, this.#submissionFlagsAt);
      if ((flags & SQ_FLAG.taskrun) !== 0) return true;
    }
    return false;
  }

  #enter(minimum: number, flags: number, argument: number, argumentBytes: number): number {
    this.#submission[this.#submissionTailAt] = this.#tail;
    const result = libc.syscall(
      SYS_IO_URING_ENTER,
      this.#enterFd,
      this.#unsubmitted,
      minimum,
      flags,
      argument,
      argumentBytes,
    ) as number;
    if (result >= 0) {
      this.#unsubmitted -= result;
      this.#refusals = 0;
      return result;
    }
    // Out of time is the usual end of a quiet wait. Others pass (EINTR, EAGAIN, EBUSY) or do not
    // pass at all; errno may have been changed since by the runtime, so their number decides.
    const code = errno();
    if (code === ERRNO.ETIME) this.#refusals = 0;
    else this.#refusals++;
    assert(this.#refusals < REFUSALS_MAX, `io_uring_enter works (${errnoName(code)})`);
    return -code;
  }

  /** Completions that are there and not dispatched. */
  get waiting(): number {
    const completions = this.#completions;
    const head = completions[this.#completionHeadAt] as number;
    return ((completions[this.#completionTailAt] as number) - head) | 0;
  }

  /** Tells the targets of all completions that are there; answers how many. */
  dispatch(): number {
    const completions = this.#completions;
    let head = completions[this.#completionHeadAt] as number;
    let count = 0;
    // The tail is read anew each time: a target may submit, and completions come with that.
    while (head !== completions[this.#completionTailAt]) {
      const at = this.#cqesAt + ((head >>> 0) & this.#completionMask) * CQE_WORDS;
      const slot = (completions[at + CQE.slot] as number) >>> 0;
      const result = completions[at + CQE.result] as number;
      const flags = completions[at + CQE.flags] as number;
      head = (head + 1) | 0;
      completions[this.#completionHeadAt] = head;
      count++;
      if (slot === IGNORED_SLOT) continue;
      const target = this.#targets[slot] as RingTarget;
      const tag = this.#tags[slot] as number;
      if ((flags & CQE_FLAG.more) === 0) {
        this.#targets[slot] = null;
        this.#freeSlots.push(slot);
        this.#inFlight--;
      }
      target.ringDone(tag, result, flags);
    }
    return count;
  }

  /** Closes the ring, on its own thread; what is still under way is cancelled by the kernel. */
  close(): void {
    if (this.#enterFd !== this.#fd) {
      const update = RSRC_UPDATE.view().at(this.#scratch, SCRATCH_UPDATE).clear();
      update.offset = this.#enterFd;
      const at = this.#scratchAt + SCRATCH_UPDATE;
      libc.syscall(SYS_IO_URING_REGISTER, this.#fd, REGISTER_RING_FDS_UNDO, at, 1, 0, 0);
    }
    libc.close(this.#fd);
  }
}

type Params = ReturnType<typeof RING_PARAMS.view>;

function setUp(
  entries: number,
  scratchAt: number,
  params: Params,
): { fd: number; noSqArray: boolean } {
  const required =
    SETUP.cqSize |
    SETUP.clamp |
    SETUP.submitAll |
    SETUP.taskrunFlag |
    SETUP.singleIssuer |
    SETUP.deferTaskrun;
  const trySetUp = (flags: number): number => {
    params.clear();
    params.flags = flags;
    params.cqEntries = entries * COMPLETIONS_PER_ENTRY;
    const at = scratchAt + SCRATCH_PARAMS;
    const fd = libc.syscall(SYS_IO_URING_SETUP, entries, at, 0, 0, 0, 0) as number;
    return fd < 0 ? -errno() : fd;
  };
  let noSqArray = true;
  let fd = trySetUp(required | SETUP.noSqArray);
  if (fd === -ERRNO.EINVAL) {
    noSqArray = false;
    fd = trySetUp(required);
  }
  if (fd < 0) throw new Fault("badMachine", setUpSentence(-fd));
  const needed = FEATURE.singleMmap | FEATURE.noDrop | FEATURE.submitStable | FEATURE.extArg;
  assert((params.features & needed) === needed, "a 6.1 kernel has these features of io_uring");
  return { fd, noSqArray };
}

/** Why there is no ring, for a person. */
function setUpSentence(code: number): string {
  switch (code) {
    case ERRNO.ENOSYS:
      return "this kernel has no io_uring (Linux 6.1 or later with CONFIG_IO_URING is needed)";
    case ERRNO.EPERM:
      return "io_uring is forbidden here (sysctl kernel.io_uring_disabled, or a container's rules)";
    case ERRNO.EINVAL:
      return "this kernel's io_uring is too old (Linux 6.1 or later is needed)";
    case ERRNO.ENOMEM:
      return "no memory for an io_uring (see the limit on locked memory, ulimit -l)";
    default:
      return `io_uring could not be set up (${errnoName(code)})`;
  }
}

function mapRing(fd: number, lengthBytes: number, offset: number): ArrayBuffer {
  const mapped = libc.mmap(null, lengthBytes, PROT_READ_WRITE, MAP_SHARED_POPULATE, fd, offset);
  const start = mappedAddress(mapped);
  if (start === null) {
    throw new Fault("badMachine", `the io_uring could not be mapped (${errnoName(errno())})`);
  }
  return mappedBytes(start, lengthBytes);
}

/** The registered descriptor's index, which spares a lookup per enter; null where that fails. */
function registerRing(fd: number, scratch: Uint8Array, scratchAt: number): number | null {
  const update = RSRC_UPDATE.view().at(scratch, SCRATCH_UPDATE).clear();
  update.offset = 0xffffffff;
  update.fd = fd;
  const at = scratchAt + SCRATCH_UPDATE;
  const result = libc.syscall(SYS_IO_URING_REGISTER, fd, REGISTER_RING_FDS, at, 1, 0, 0) as number;
  return result === 1 ? update.offset : null;
}

/** Bounds the kernel's helper threads (R13); a kernel that refuses keeps its own bounds. */
function boundWorkers(fd: number, scratch: Uint8Array, scratchAt: number): void {
  const view = new DataView(scratch.buffer);
  view.setUint32(SCRATCH_WORKERS, KERNEL_WORKERS_BOUNDED, true);
  view.setUint32(SCRATCH_WORKERS + 4, KERNEL_WORKERS_UNBOUNDED, true);
  const at = scratchAt + SCRATCH_WORKERS;
  libc.syscall(SYS_IO_URING_REGISTER, fd, REGISTER_IOWQ_MAX_WORKERS, at, 2, 0, 0);
}

/** Throws Fault badMachine where io_uring is not to be had; else answers what was found. */
export function probeRing(): { features: readonly string[] } {
  const ring = new Ring({ entries: 8 });
  ring.close();
  return { features: ring.features };
}
