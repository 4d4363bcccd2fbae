// SPDX-License-Identifier: Apache-2.0
//
// Sizes, times and durations in the words of people, for the CLI and the status page. Pure: times
// are UTC and computed from the milliseconds alone. Sizes are binary, as disks of volumes are: 1G
// is 2^30 bytes.

const UNITS = ["", "K", "M", "G", "T", "P"] as const;
const MS_PER_DAY = 86_400_000;
/** How long pages and CLI keep a deleted volume. */
export const GRACE_MS = MS_PER_DAY;

/**
 * `4096`, `64M`, `1.5T`, `100GiB` as bytes; null when it is no size or no whole number of bytes.
 */
export function parseSize(text: string): number | null {
  const match = /^(\d{1,16}(?:\.\d{1,6})?)([KMGTP]?)(i?B)?$/i.exec(text.trim());
  if (match === null) return null;
  const power = UNITS.indexOf((match[2] ?? "").toUpperCase() as (typeof UNITS)[number]);
  // "100iB" is no unit; "100B" is bytes.
  if (power === 0 && match[3]?.toLowerCase() === "ib") return null;
  const bytes = Number(match[1]) * 1024 ** power;
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/**
 * `1.5 GiB`: at most one digit after the point, rounded down so that free space is never
 * overstated.
 */
export function sizeInWords(bytes: number): string {
  let power = 0;
  while (power < UNITS.length - 1 && bytes >= 1024 ** (power + 1)) power++;
  if (power === 0) return `${bytes} B`;
  const tenths = Math.floor((bytes / 1024 ** power) * 10) / 10;
  return `${tenths} ${UNITS[power]}iB`;
}

const DURATIONS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: MS_PER_DAY } as const;

/** `14d`, `90m`, `250ms` as milliseconds; null when it is none, or no whole number of them. */
export function parseDuration(text: string): number | null {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)$/i.exec(text.trim());
  if (match === null) return null;
  const unit = DURATIONS[(match[2] ?? "ms").toLowerCase() as keyof typeof DURATIONS];
  const ms = Number(match[1]) * unit;
  return Number.isSafeInteger(ms) ? ms : null;
}

/** The largest unit that says it in a whole number: `14d`, `90m`. */
export function durationInWords(ms: number): string {
  for (const [name, unit] of Object.entries(DURATIONS).reverse()) {
    if (ms !== 0 && ms % unit === 0) return `${ms / unit}${name}`;
  }
  return `${ms}ms`;
}

/** `2026-03-01 12:34:56`, UTC, of milliseconds since 1970. */
export function timeInWords(atMs: number): string {
  const days = Math.floor(atMs / MS_PER_DAY);
  const { year, month, day } = civilDay(days);
  const seconds = Math.floor((atMs - days * MS_PER_DAY) / 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  const clock = [seconds / 3600, (seconds / 60) % 60, seconds % 60];
  const date = `${String(year).padStart(4, "0")}-${two(month)}-${two(day)}`;
  return `${date} ${clock.map((part) => two(Math.floor(part))).join(":")}`;
}

/** The same back: seconds may be left out, a `T` may stand between, a `Z` behind. Null: no time. */
export function parseTime(word: string): number | null {
  const parts = /^(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?Z?$/.exec(word.trim());
  if (parts === null) return null;
  const [year, month, day, hours, minutes, seconds] = parts
    .slice(1)
    .map((part) => Number(part ?? 0)) as [number, number, number, number, number, number];
  const days = daysOf({ year, month, day });
  const atMs = days * MS_PER_DAY + ((hours * 60 + minutes) * 60 + seconds) * 1000;
  // A day or an hour that there is none of comes back as another.
  const two = (value: number) => String(value).padStart(2, "0");
  const clock = [hours, minutes, seconds].map(two).join(":");
  return timeInWords(atMs) === `${parts[1]}-${parts[2]}-${parts[3]} ${clock}` ? atMs : null;
}

/** As civilDay, the other way. */
function daysOf({ year, month, day }: { year: number; month: number; day: number }): number {
  const fromMarch = year - (month <= 2 ? 1 : 0);
  const era = Math.floor(fromMarch / 400);
  const yearOfEra = fromMarch - era * 400;
  const monthFromMarch = month > 2 ? month - 3 : month + 9;
  const dayOfYear = Math.floor((153 * monthFromMarch + 2) / 5) + day - 1;
  const leaps = Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100);
  return era * 146_097 + yearOfEra * 365 + leaps + dayOfYear - 719_468;
}

/** Days since 1970-01-01 to a Gregorian date, in eras of 400 years that begin on 1 March. */
function civilDay(days: number): { year: number; month: number; day: number } {
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const leaps =
    Math.floor(dayOfEra / 1460) - Math.floor(dayOfEra / 36_524) + Math.floor(dayOfEra / 146_096);
  const yearOfEra = Math.floor((dayOfEra - leaps) / 365);
  const dayOfYear =
    dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1;
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  return { year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day };
}
