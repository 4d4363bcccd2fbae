// SPDX-License-Identifier: Apache-2.0
//
// FileArea: a file, a block device or a stretch of one as an Area (base/operation.ts) on the ring.
//
// Block devices are read and written past the page cache (O_DIRECT), files too where their file
// system can; else buffered, with a bound on the bytes the kernel holds dirty, so that a flush
// takes seconds at most (R13): once half the bound has been written a write-back starts, and writes
// wait when the other half is full before it ended. The bound follows what the disk was seen to do.
// A buffered read that finds all its bytes in the page cache ends within `submit`. A short buffered
// write is done by a plain call where that is not likely to wait (plain-writes.ts), and told of
// later in the same turn.
//
// Invariants:
// - R10: nothing is retried into success. After a failed write or flush every later write and flush
//   fails too: the kernel reports a lost page once and then forgets it.
// - A short read or write is continued where it stopped; no progress is an error.
// - At most QUEUE_DEPTH_MAX operations are in the kernel; more wait in order, linked by `next`.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import {
  type Area,
  FLAG_FUA,
  FLAG_PAST_CACHE,
  type Operation,
  OperationKind,
} from "#base/operation.ts";
import { Status } from "#base/status.ts";
import {
  AT_EMPTY_PATH,
  BLKGETSIZE64,
  BLKSSZGET,
  FADVISE_DONTNEED,
  FSYNC_DATASYNC,
  IOVEC,
  IOVEC_BYTES,
  RING_OP,
  RWF_DSYNC,
  RWF_NOWAIT,
  SQE,
  STATX_BYTES,
  STATX_DIOALIGN,
  STATX_DIO_MEM_ALIGN,
  STATX_DIO_OFFSET_ALIGN,
} from "./io-uring.wire.ts";
import { ERRNO, address, cString, errno, errnoName, libc } from "./libc.ts";
import { fstatSync } from "node:fs";
import { mapMemory, mappedBytes } from "./arena.ts";
import { patiently } from "./patience.ts";
import type { PlainWrites } from "./plain-writes.ts";
import type { Reactor } from "./reactor.ts";
import type { RingTarget } from "./ring.ts";
import { WriteBack, type WriteBackOwner } from "./write-back.ts";
import type { LaneOwner, WriteLane } from "./write-lane.ts";

const QUEUE_DEPTH_MAX = 256;
const SECTOR = 512;
const ALIGN_MAX = 4096;
/**
 * While writes and flushes are under way and none of them ends for so long, ms, something holds
 * them up that a plain write might meet too.
 */
const HELD_UP_MS = 5;
/** Reads that are not looked for in the page cache after one that was not there. */
const MISS_REST = 16;

const O_RDWR = 2;
const LOCK_EX_NB = 2 | 4;
const O_EXCL = 0x80;
const O_CLOEXEC = 0x80000;
const O_DIRECT = process.arch === "arm64" ? 0x10000 : 0x4000;

// Steps of a request, the tags of its completions.
const STEP_TRANSFER = 0;
const STEP_FORGET = 1;
const STEP_FLUSH = 2;

export interface AreaPlace {
  path: string;
  /** Start of the stretch, bytes; 0: from the beginning. */
  offsetBytes?: number;
  /** Length of the stretch; default: to the end. */
  sizeBytes?: number;
  /** Past the page cache. Default "auto": yes where it can be done; block devices always. */
  direct?: "auto" | "never";
}

interface OpenedFile {
  fd: number;
  direct: boolean;
  alignBytes: number;
  fileBytes: number;
}

export class FileArea implements Area, WriteBackOwner {
  readonly path: string;
  readonly sizeBytes: number;
  readonly alignBytes: number;
  /** Whether the page cache is passed by. */
  readonly direct: boolean;
  /** What went wrong first, for the log and the console; null while nothing did. */
  failure: string | null = null;
  /** Told once, when `failure` is set. */
  onFailure: (what: string) => void = () => {};
  readonly #reactor: Reactor;
  readonly #fd: number;
  readonly #offsetBytes: number;
  readonly #freeRequests: Request[] = [];
  #underWay = 0;
  #waitingFirst: Operation | null = null;
  #waitingLast: Operation | null = null;
  #writesFail = false;
  /** Buffered only. */
  readonly writeBack: WriteBack | null;
  readonly #cached: CachedReads | null = null;
  /** Buffered only. */
  readonly lane: WriteLane | null;
  readonly #plain: PlainWrites | null;
  /** What it lies on, or is (stat(2)). */
  readonly #device: number;
  /** Writes and flushes that the ring or the lane has, and when one of them ended or began last. */
  #elsewhere = 0;
  #elsewhereMs = 0;
  #closed: (() => void) | null = null;
  #gone = false;

  /** Opens it. Throws Fault diskRefused where it is in use or too small, diskFailed on errors. */
  constructor(reactor: Reactor, place: AreaPlace) {
    const opened = openFile(place.path, place.direct ?? "auto");
    this.#reactor = reactor;
    this.#fd = opened.fd;
    this.path = place.path;
    this.direct = opened.direct;
    this.alignBytes = opened.alignBytes;
    this.#offsetBytes = place.offsetBytes ?? 0;
    const available = opened.fileBytes - this.#offsetBytes;
    const size = place.sizeBytes ?? available;
    this.sizeBytes = size - (size % this.alignBytes);
    if (this.sizeBytes <= 0 || size > available || this.#offsetBytes % this.alignBytes !== 0) {
      libc.close(opened.fd);
      const wanted = `${size} bytes from ${this.#offsetBytes}`;
      throw new Fault("diskRefused", `${place.path} has ${opened.fileBytes} bytes, not ${wanted}`);
    }
    this.lane = opened.direct ? null : reactor.writeLane();
    this.#plain = opened.direct ? null : reactor.plainWrites;
    const stat = fstatSync(opened.fd);
    this.#device = stat.isBlockDevice() ? stat.rdev : stat.dev;
    reactor.plainWrites.diskOpened(this.#device);
    this.writeBack = opened.direct ? null : new WriteBack(this, reactor, opened.fd);
    if (opened.direct) return;
    this.#cached = new CachedReads(reactor, opened.fd, this.#offsetBytes);
  }

  submit(operation: Operation): void {
    const refusal = this.#refusal(operation);
    if (refusal !== Status.ok) {
      operation.complete(refusal);
      return;
    }
    if (
      this.#underWay >= QUEUE_DEPTH_MAX ||
      this.#waitingFirst !== null ||
      this.#mustHold(operation)
    ) {
      operation.next = null;
      if (this.#waitingLast === null) this.#waitingFirst = operation;
      else this.#waitingLast.next = operation;
      this.#waitingLast = operation;
      return;
    }
    this.#start(operation);
  }

  /**
   * `done` when nothing of the area is in the kernel any more. Nothing may be submitted after it.
   */
  close(done: () => void): void {
    assert(this.#closed === null, "an area is closed once");
    this.#closed = done;
    this.#closeIfIdle();
  }

  #refusal(operation: Operation): Status {
    if (this.#closed !== null) return Status.shuttingDown;
    if (operation.kind === OperationKind.flush) {
      return this.#writesFail ? Status.ioError : Status.ok;
    }
    const { kind, offsetBytes, lengthBytes, bufferOffset } = operation;
    if (kind !== OperationKind.read && kind !== OperationKind.write) return Status.invalid;
    if (offsetBytes < 0 || lengthBytes <= 0) return Status.outOfRange;
    if (offsetBytes + lengthBytes > this.sizeBytes) return Status.outOfRange;
    const aligned =
      offsetBytes % this.alignBytes === 0 &&
      lengthBytes % this.alignBytes === 0 &&
      bufferOffset % this.alignBytes === 0;
    assert(aligned, "operations on an area are aligned");
    assert(
      bufferOffset >= 0 && bufferOffset + lengthBytes <= this.#reactor.memory.bytes.length,
      "the buffer lies in Memory",
    );
    if (kind === OperationKind.write && this.#writesFail) return Status.ioError;
    return Status.ok;
  }

  #mustHold(operation: Operation): boolean {
    if (operation.kind !== OperationKind.write || this.writeBack === null) return false;
    return this.writeBack.mustHold(operation.lengthBytes);
  }

  #start(operation: Operation): void {
    if (operation.kind === OperationKind.read && this.#cached?.serve(operation) === true) return;
    this.#underWay++;
    if (operation.kind === OperationKind.write) this.writeBack?.writeBegins(operation.lengthBytes);
    else if (operation.kind === OperationKind.flush) this.writeBack?.flushBegins();
    const request =
      this.#freeRequests.pop() ?? new Request(this, this.#reactor, this.#fd, this.#offsetBytes);
    request.start(operation);
  }

  /** A write whose owner is told later in this turn; false: the lane or the ring has to do it. */
  writePlainly(offsetBytes: number, at: number, lengthBytes: number, owner: LaneOwner): boolean {
    if (this.#plain === null) return false;
    if (this.#elsewhere > 0 && performance.now() - this.#elsewhereMs > HELD_UP_MS) return false;
    return this.#plain.write(this.#fd, offsetBytes, at, lengthBytes, owner);
  }

  beganElsewhere(): void {
    if (this.#plain === null) return;
    this.#elsewhere++;
    if (this.#elsewhere === 1) this.#elsewhereMs = performance.now();
  }

  endedElsewhere(): void {
    if (this.#plain === null) return;
    this.#elsewhere--;
    this.#elsewhereMs = performance.now();
  }

  /** A request ended; `code` is 0 or the errno. */
  requestEnded(request: Request, operation: Operation, code: number): void {
    this.#freeRequests.push(request);
    this.#underWay--;
    const isRead = operation.kind === OperationKind.read;
    if (operation.kind === OperationKind.flush) this.writeBack?.flushEnded(code === 0);
    if (code !== 0) {
      const call = isRead ? "read" : operation.kind === OperationKind.write ? "write" : "fdatasync";
      this.fail(call, code, { writes: !isRead });
    }
    // A write or flush that was under way when another failed is not trusted either (R10).
    const good = code === 0 && (isRead || !this.#writesFail);
    operation.complete(good ? Status.ok : Status.ioError);
    this.#startWaiting();
    this.#closeIfIdle();
  }

  writeBackEnded(code: number): void {
    if (code !== 0) this.fail("sync_file_range", code, { writes: true });
    this.#startWaiting();
    this.#closeIfIdle();
  }

  fail(call: string, code: number, options: { writes: boolean }): void {
    if (options.writes) this.#writesFail = true;
    if (this.failure !== null) return;
    this.failure = `${call} of ${this.path} failed: ${errnoName(code)}`;
    this.onFailure(this.failure);
  }

  #startWaiting(): void {
    while (this.#waitingFirst !== null && this.#underWay < QUEUE_DEPTH_MAX) {
      const operation = this.#waitingFirst;
      if (this.#mustHold(operation) && !this.#writesFail) return;
      this.#waitingFirst = operation.next;
      if (this.#waitingFirst === null) this.#waitingLast = null;
      operation.next = null;
      if (this.#writesFail && operation.kind !== OperationKind.read) {
        operation.complete(Status.ioError);
      } else {
        this.#start(operation);
      }
    }
  }

  #closeIfIdle(): void {
    if (this.#closed === null || this.#underWay > 0 || this.#waitingFirst !== null) return;
    if (this.#gone || this.writeBack?.running === true) return;
    const done = this.#closed;
    // Once: by now the number may be another file's.
    this.#gone = true;
    this.#cached?.close();
    this.#reactor.plainWrites.diskClosed(this.#device);
    libc.close(this.#fd);
    done();
  }
}

/** One operation in the kernel. Pooled by its area. */
class Request implements RingTarget, LaneOwner {
  readonly #area: FileArea;
  readonly #reactor: Reactor;
  readonly #fd: number;
  readonly #baseBytes: number;
  #operation: Operation | null = null;
  #doneBytes = 0;
  /** A write or flush that the ring or the lane has. */
  #isElsewhere = false;

  constructor(area: FileArea, reactor: Reactor, fd: number, baseBytes: number) {
    this.#area = area;
    this.#reactor = reactor;
    this.#fd = fd;
    this.#baseBytes = baseBytes;
  }

  start(operation: Operation): void {
    this.#operation = operation;
    this.#doneBytes = 0;
    if (operation.kind === OperationKind.flush) this.#flush();
    else if ((operation.flags & FLAG_PAST_CACHE) !== 0 && !this.#area.direct) this.#forget();
    else this.#transfer();
  }

  ringDone(tag: number, result: number): void {
    if (tag === STEP_TRANSFER) this.#reactor.diskInFlight--;
    this.#leaveElsewhere();
    this.#done(tag, result);
  }

  #done(tag: number, result: number): void {
    const operation = this.#operation as Operation;
    if (tag === STEP_FORGET) {
      this.#transfer(); // advice; a refusal costs only freshness of what was clean anyway
      return;
    }
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) {
      if (tag === STEP_FLUSH) this.#flush();
      else this.#transfer();
      return;
    }
    if (tag === STEP_FLUSH || result < 0) {
      this.#end(operation, result < 0 ? -result : 0);
      return;
    }
    this.#doneBytes += result;
    if (this.#doneBytes === operation.lengthBytes) this.#end(operation, 0);
    else if (result === 0 || this.#doneBytes % this.#area.alignBytes !== 0) {
      this.#end(operation, ERRNO.EIO); // the end of a file that was cut short, or a torn transfer
    } else this.#transfer();
  }

  #transfer(): void {
    const operation = this.#operation as Operation;
    const isRead = operation.kind === OperationKind.read;
    if (!isRead) {
      if (this.#area.lane !== null && this.#throughCache(this.#area.lane)) return;
      this.#goElsewhere();
    }
    const { words } = this.#reactor.ring;
    const opcode = isRead ? RING_OP.read : RING_OP.write;
    this.#reactor.diskInFlight++;
    const entry = this.#reactor.ring.prepare(opcode, this.#fd, this, STEP_TRANSFER);
    this.#setOffset(entry, this.#baseBytes + operation.offsetBytes + this.#doneBytes);
    this.#reactor.setAddress(entry, operation.bufferOffset + this.#doneBytes);
    words[entry + SQE.length] = operation.lengthBytes - this.#doneBytes;
    if (!isRead && (operation.flags & FLAG_FUA) !== 0) words[entry + SQE.opFlags] = RWF_DSYNC;
  }

  /** One that may stay in the page cache; false: the ring has to do it. */
  #throughCache(lane: WriteLane): boolean {
    const { offsetBytes, bufferOffset, lengthBytes, flags } = this.#operation as Operation;
    if ((flags & FLAG_FUA) !== 0) return false;
    const done = this.#doneBytes;
    const at = this.#baseBytes + offsetBytes + done;
    const address = this.#reactor.memory.baseAddress + bufferOffset + done;
    if (this.#area.writePlainly(at, address, lengthBytes - done, this)) return true;
    if (!lane.write(this.#fd, at, address, lengthBytes - done, this)) return false;
    this.#goElsewhere();
    return true;
  }

  laneDone(result: number): void {
    this.#leaveElsewhere();
    this.#done(STEP_TRANSFER, result);
  }

  #goElsewhere(): void {
    this.#isElsewhere = true;
    this.#area.beganElsewhere();
  }

  #leaveElsewhere(): void {
    if (!this.#isElsewhere) return;
    this.#isElsewhere = false;
    this.#area.endedElsewhere();
  }

  #flush(): void {
    this.#goElsewhere();
    const entry = this.#reactor.ring.prepare(RING_OP.fsync, this.#fd, this, STEP_FLUSH);
    this.#reactor.ring.words[entry + SQE.opFlags] = FSYNC_DATASYNC;
  }

  /** Drops the clean pages under a read, so that it sees the medium. */
  #forget(): void {
    const operation = this.#operation as Operation;
    const { words } = this.#reactor.ring;
    const entry = this.#reactor.ring.prepare(RING_OP.fadvise, this.#fd, this, STEP_FORGET);
    this.#setOffset(entry, this.#baseBytes + operation.offsetBytes);
    words[entry + SQE.length] = operation.lengthBytes;
    words[entry + SQE.opFlags] = FADVISE_DONTNEED;
  }

  #setOffset(entry: number, offsetBytes: number): void {
    const { words } = this.#reactor.ring;
    words[entry + SQE.offsetLow] = offsetBytes % 2 ** 32;
    words[entry + SQE.offsetHigh] = Math.floor(offsetBytes / 2 ** 32);
  }

  #end(operation: Operation, code: number): void {
    this.#operation = null;
    this.#area.requestEnded(this, operation, code);
  }
}

/**
 * Reads out of the page cache by a plain call that never waits; what is not there is the ring's.
 */
class CachedReads {
  readonly #reactor: Reactor;
  readonly #fd: number;
  readonly #baseBytes: number;
  readonly #vectorAt = mapMemory(IOVEC_BYTES);
  readonly #vector = new Uint32Array(mappedBytes(this.#vectorAt, IOVEC_BYTES));
  #rest = 0;
  /** A read ends just now: what its owner asks next is the ring's, so that the stack stays flat. */
  #isEnding = false;

  constructor(reactor: Reactor, fd: number, baseBytes: number) {
    this.#reactor = reactor;
    this.#fd = fd;
    this.#baseBytes = baseBytes;
  }

  /** True: it has ended. */
  serve(operation: Operation): boolean {
    if (this.#isEnding || (operation.flags & FLAG_PAST_CACHE) !== 0) return false;
    if (this.#rest > 0) {
      this.#rest--;
      return false;
    }
    const { bufferOffset, lengthBytes, offsetBytes } = operation;
    const vector = this.#vector;
    vector[IOVEC.addressLow / 4] = this.#reactor.addressLow(bufferOffset);
    vector[IOVEC.addressHigh / 4] = this.#reactor.addressHigh;
    vector[IOVEC.lengthLow / 4] = lengthBytes;
    const at = this.#baseBytes + offsetBytes;
    const result = libc.preadv2(this.#fd, address(this.#vectorAt), 1, at, RWF_NOWAIT);
    if (Number(result) !== lengthBytes) {
      this.#rest = MISS_REST;
      return false;
    }
    this.#isEnding = true;
    operation.complete(Status.ok);
    this.#isEnding = false;
    return true;
  }

  close(): void {
    libc.munmap(address(this.#vectorAt), IOVEC_BYTES);
  }
}

function openFile(path: string, direct: "auto" | "never"): OpenedFile {
  const name = cString(path);
  const flags = O_RDWR | O_CLOEXEC;
  // Exclusive on a block device: refused while it, or a GPT partition of it, is mounted or held.
  const attempt = () => {
    const fd = libc.open(name, flags | O_EXCL, 0);
    return fd < 0 ? -errno() : fd;
  };
  const probe = patiently(attempt, (answer) => answer === -ERRNO.EBUSY);
  if (probe < 0) throw openFault(path, -probe);
  const stat = fstatSync(probe);
  if (stat.isBlockDevice()) {
    libc.close(probe);
    const fd = libc.open(name, flags | O_EXCL | O_DIRECT, 0);
    if (fd < 0) throw openFault(path, errno());
    return { fd, direct: true, ...deviceGeometry(fd) };
  }
  if (!stat.isFile()) {
    libc.close(probe);
    throw new Fault("diskRefused", `${path} is neither a file nor a block device`);
  }
  const opened = openPlainFile(path, probe, stat.size, direct);
  // Two daemons never share one file; for block devices the exclusive opening says so.
  const lock = () => libc.flock(opened.fd, LOCK_EX_NB);
  if (patiently(lock, (answer) => answer !== 0) === 0) return opened;
  libc.close(opened.fd);
  throw new Fault("diskRefused", `${path} is in use (locked by another program)`);
}

function openPlainFile(
  path: string,
  probe: number,
  fileBytes: number,
  direct: "auto" | "never",
): OpenedFile {
  const buffered = { fd: probe, direct: false, alignBytes: SECTOR, fileBytes };
  const alignBytes = direct === "auto" ? directAlignment(probe) : null;
  if (alignBytes === null) return buffered;
  const fd = libc.open(cString(path), O_RDWR | O_CLOEXEC | O_DIRECT, 0);
  if (fd < 0) return buffered;
  libc.close(probe);
  return { fd, direct: true, alignBytes, fileBytes };
}

function openFault(path: string, code: number): Fault {
  if (code === ERRNO.EBUSY) {
    return new Fault("diskRefused", `${path} is in use (mounted, or held by another program)`);
  }
  return new Fault("diskFailed", `${path} cannot be opened (${errnoName(code)})`);
}

/** What direct I/O on a file must be aligned to; null where it is not to be had. */
function directAlignment(fd: number): number | null {
  const at = mapMemory(STATX_BYTES);
  const answer = new DataView(mappedBytes(at, STATX_BYTES));
  const empty = cString("");
  const result = libc.statx(fd, empty, AT_EMPTY_PATH, STATX_DIOALIGN, address(at));
  const told = result === 0 && (answer.getUint32(0, true) & STATX_DIOALIGN) !== 0;
  const memory = answer.getUint32(STATX_DIO_MEM_ALIGN, true);
  const offset = answer.getUint32(STATX_DIO_OFFSET_ALIGN, true);
  libc.munmap(address(at), ALIGN_MAX);
  if (!told) return null;
  const align = Math.max(memory, offset, SECTOR);
  return memory > 0 && offset > 0 && align <= ALIGN_MAX ? align : null;
}

function deviceGeometry(fd: number): { alignBytes: number; fileBytes: number } {
  const at = mapMemory(16);
  const answer = new DataView(mappedBytes(at, 16));
  const known =
    libc.ioctl(fd, BLKSSZGET, address(at)) === 0 &&
    libc.ioctl(fd, BLKGETSIZE64, address(at + 8)) === 0;
  const code = errno();
  const alignBytes = answer.getUint32(0, true);
  const fileBytes = answer.getUint32(8, true) + answer.getUint32(12, true) * 2 ** 32;
  libc.munmap(address(at), ALIGN_MAX);
  if (!known) throw new Fault("diskFailed", `its size is not known (${errnoName(code)})`);
  return { alignBytes: Math.max(alignBytes, SECTOR), fileBytes };
}
