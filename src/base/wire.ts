// SPDX-License-Identifier: Apache-2.0
//
// Wire and disk structures. A fixed header is written as a table with the offsets as its
// specification prints them; `struct` checks when the module is loaded that the rows are ordered,
// leave no gap and sum to the stated size, and builds one reusable view, which is moved over bytes
// by `at`. The table is never interpreted per message.
//
//   const REQUEST = struct("NBD request", 28, "big", {
//     magic: u32(0),        // 0x25609513
//     flags: u16(4),
//     type: u16(6),
//     cookie: bytes(8, 8),  // opaque, given back as it came
//     offset: u64(16),      // bytes
//     length: u32(24),      // bytes
//   });
//   const request = REQUEST.view();
//   request.at(buffer, start).length

import { AssertionFailure, assert } from "./assert.ts";

export type Endian = "big" | "little";

interface Row<T> {
  readonly offset: number;
  readonly size: number;
  readonly kind: "number" | "float" | "bytes" | "reserved";
  /** Only for the type; never set. */
  readonly value?: T;
}

/** Unsigned integers; the argument is the offset in the structure. */
export const u8 = (offset: number): Row<number> => ({ offset, size: 1, kind: "number" });
export const u16 = (offset: number): Row<number> => ({ offset, size: 2, kind: "number" });
export const u32 = (offset: number): Row<number> => ({ offset, size: 4, kind: "number" });
/**
 * A 64-bit unsigned integer as a number. Read values past 2^53 - 1 come out as Infinity, so that
 * every range check refuses them. Opaque 64-bit values are `bytes`, never this.
 */
export const u64 = (offset: number): Row<number> => ({ offset, size: 8, kind: "number" });
/** A binary64 (IEEE 754), bit for bit: clock values that come back as an echo. */
export const f64 = (offset: number): Row<number> => ({ offset, size: 8, kind: "float" });
/** Opaque bytes: read as a view of the message (copy it to keep it), written by copying. */
export const bytes = (offset: number, size: number): Row<Uint8Array> => ({
  offset,
  size,
  kind: "bytes",
});
/** Must be zero; `reservedIsZero` checks it, writing clears it by `clear`. */
export const reserved = (offset: number, size: number): Row<never> => ({
  offset,
  size,
  kind: "reserved",
});

export type Rows = Record<string, Row<unknown>>;

type Fields<R extends Rows> = {
  -readonly [K in keyof R as R[K] extends Row<never> ? never : K]: R[K] extends Row<infer T>
    ? T
    : never;
};

export interface StructView<R extends Rows> {
  /** Moves the view; `start` plus the structure's size must lie within `source`. */
  at(source: Uint8Array, start: number): this & Fields<R>;
  /** Zeroes the structure's bytes, reserved ones included. */
  clear(): this & Fields<R>;
  /** Whether every reserved byte is zero. */
  reservedIsZero(): boolean;
}
export type View<R extends Rows> = StructView<R> & Fields<R>;

export interface Struct<R extends Rows> {
  readonly name: string;
  readonly size: number;
  readonly endian: Endian;
  readonly rows: R;
  /** A new view; keep it and move it. */
  view(): View<R>;
}

export function struct<R extends Rows>(
  name: string,
  size: number,
  endian: Endian,
  rows: R,
): Struct<R> {
  checkRows(name, size, rows);
  const Made = makeView(name, size, endian === "little", rows);
  return { name, size, endian, rows, view: () => new Made() as unknown as View<R> };
}

function checkRows(name: string, size: number, rows: Rows): void {
  let end = 0;
  for (const [field, row] of Object.entries(rows)) {
    if (row.offset !== end) {
      throw new AssertionFailure(
        `${name}.${field} is at ${row.offset}, the row before ends ${end}`,
      );
    }
    end += row.size;
  }
  if (end !== size) throw new AssertionFailure(`${name}: rows sum to ${end}, not ${size}`);
}

const EMPTY = new Uint8Array(0);

class ViewBase {
  bytes: Uint8Array = EMPTY;
  data: DataView = new DataView(EMPTY.buffer);
  base = 0;
}

function makeView(name: string, size: number, little: boolean, rows: Rows): typeof ViewBase {
  // Made once: a sentence put together at every use costs more than the check.
  const within = `${name} lies within its buffer`;
  class Made extends ViewBase {
    at(source: Uint8Array, start: number): this {
      assert(start >= 0 && start + size <= source.length, within);
      if (source !== this.bytes) {
        this.bytes = source;
        this.data = new DataView(source.buffer, source.byteOffset, source.byteLength);
      }
      this.base = start;
      return this;
    }
    clear(): this {
      this.bytes.fill(0, this.base, this.base + size);
      return this;
    }
    reservedIsZero(): boolean {
      for (const row of Object.values(rows)) {
        if (row.kind !== "reserved") continue;
        const from = this.base + row.offset;
        for (let at = from; at < from + row.size; at++) if (this.bytes[at] !== 0) return false;
      }
      return true;
    }
  }
  for (const [field, row] of Object.entries(rows)) {
    if (row.kind === "reserved") continue;
    Object.defineProperty(Made.prototype, field, accessOf(row, little));
  }
  return Made;
}

function accessOf(row: Row<unknown>, little: boolean): PropertyDescriptor & ThisType<ViewBase> {
  if (row.kind === "bytes") return bytesAccess(row);
  if (row.kind === "float") return floatAccess(row.offset, little);
  return numberAccess(row, little);
}

function floatAccess(offset: number, little: boolean): PropertyDescriptor & ThisType<ViewBase> {
  return {
    get() {
      return this.data.getFloat64(this.base + offset, little);
    },
    set(value: number) {
      this.data.setFloat64(this.base + offset, value, little);
    },
  };
}

function bytesAccess(row: Row<unknown>): PropertyDescriptor & ThisType<ViewBase> {
  const { offset, size } = row;
  return {
    get() {
      return this.bytes.subarray(this.base + offset, this.base + offset + size);
    },
    set(value: Uint8Array) {
      assert(value.length === size, "a bytes field is written whole");
      this.bytes.set(value, this.base + offset);
    },
  };
}

function numberAccess(row: Row<unknown>, little: boolean): PropertyDescriptor & ThisType<ViewBase> {
  const { offset, size } = row;
  switch (size) {
    case 1:
      return {
        get() {
          return this.data.getUint8(this.base + offset);
        },
        set(value: number) {
          assert(value >= 0 && value <= 0xff, "fits u8");
          this.data.setUint8(this.base + offset, value);
        },
      };
    case 2:
      return {
        get() {
          return this.data.getUint16(this.base + offset, little);
        },
        set(value: number) {
          assert(value >= 0 && value <= 0xffff, "fits u16");
          this.data.setUint16(this.base + offset, value, little);
        },
      };
    case 4:
      return {
        get() {
          return this.data.getUint32(this.base + offset, little);
        },
        set(value: number) {
          assert(value >= 0 && value <= 0xffffffff, "fits u32");
          this.data.setUint32(this.base + offset, value, little);
        },
      };
    default:
      return u64Access(offset, little);
  }
}

function u64Access(offset: number, little: boolean): PropertyDescriptor & ThisType<ViewBase> {
  const low = little ? 0 : 4;
  const high = little ? 4 : 0;
  return {
    get() {
      const upper = this.data.getUint32(this.base + offset + high, little);
      if (upper > 0x1fffff) return Number.POSITIVE_INFINITY;
      return upper * 2 ** 32 + this.data.getUint32(this.base + offset + low, little);
    },
    set(value: number) {
      assert(Number.isSafeInteger(value) && value >= 0, "fits u64 as a safe integer");
      this.data.setUint32(this.base + offset + high, Math.floor(value / 2 ** 32), little);
      this.data.setUint32(this.base + offset + low, value % 2 ** 32, little);
    },
  };
}

/** A struct as a Markdown table (offset, size, name): the format pages are printed from these. */
export function structTable(made: Struct<Rows>): string {
  const lines = [`| Offset | Size | Field |`, `|---:|---:|---|`];
  for (const [field, row] of Object.entries(made.rows)) {
    const shown = row.kind === "reserved" ? "*reserved, zero*" : field;
    lines.push(`| ${row.offset} | ${row.size} | ${shown} |`);
  }
  return `**${made.name}**, ${made.size} bytes, ${made.endian}-endian\n\n${lines.join("\n")}\n`;
}
