// SPDX-License-Identifier: Apache-2.0
//
// Who may write what through a voter (design section 6): a unit its own liveness, addresses, disks
// and voter record; the head of a slice its record, a named member a takeover (record-rules.ts);
// everything else the control station, which still may not say who is in sync. These rules catch
// what a unit with a fault would do to others; that every change is a compare-and-swap holds
// besides.

import { Fault } from "#base/fault.ts";
import type { SliceRecord, UnitNumber } from "#base/record.ts";
import type { ControlStore, Put, Transaction } from "./control-store.ts";
import { recordRefusal } from "./record-rules.ts";
import { StationSchema, keyParts, keys, parseEntry, parseValue } from "./state.ts";
import type { CommandRecord, DiskRecord, StateEntry, UnitRecord, VoterRecord } from "./state.ts";
import type { ViewFollower } from "./view-follower.ts";
import type { ClusterView } from "./view.ts";

const CATCH_UP_MS = 2000;

/** Why a unit may not do this, or null. */
export type MayWrite = (unit: UnitNumber, transaction: Transaction) => Promise<string | null>;

/**
 * The rules over a voter's own view, which is brought up to date before it refuses anything; Fault
 * controlStoreAway where that does not succeed in time.
 */
export function proxyRules(
  store: Pick<ControlStore, "get">,
  follower: Pick<ViewFollower, "view" | "reached">,
): MayWrite {
  return async (unit, transaction) => {
    const first = transactionRefusal(follower.view, unit, transaction);
    if (first === null) return null;
    const { entry, revision } = await store.get(keys.station);
    if (!(await follower.reached(revision, CATCH_UP_MS))) {
      throw new Fault(
        "controlStoreAway",
        "this voter is behind: it cannot tell who may write what",
      );
    }
    const isStation =
      entry !== null && parseValue(StationSchema, keys.station, entry.value).unit === unit;
    return transactionRefusal(follower.view, unit, transaction, isStation);
  };
}

/** Pure: by one view. */
export function transactionRefusal(
  view: ClusterView,
  unit: UnitNumber,
  transaction: Transaction,
  isStation = view.station?.unit === unit,
): string | null {
  if (view.units.get(unit)?.state !== "admitted") return "this unit is not in the cluster";
  const asker = { unit, isStation };
  for (const put of transaction.puts ?? []) {
    const refusal = putRefusal(view, asker, put, transaction);
    if (refusal !== null) return `${put.key}: ${refusal}`;
  }
  for (const key of transaction.deletes ?? []) {
    const refusal = deleteRefusal(view, asker, key);
    if (refusal !== null) return `${key}: ${refusal}`;
  }
  return null;
}

interface Asker {
  unit: UnitNumber;
  isStation: boolean;
}

const STATION_ONLY = "only the control station writes this";

function putRefusal(
  view: ClusterView,
  asker: Asker,
  put: Put,
  transaction: Transaction,
): string | null {
  const entry = readable(put);
  if (typeof entry === "string") return entry;
  // Indexes of names and identities have no kind of their own.
  if (entry === null) return asker.isStation ? null : STATION_ONLY;
  if (entry.kind === "alive") {
    return ownRefusal(asker, entry.number, entry.value.unit) ?? leased(put);
  }
  if (entry.kind === "event") return asker.isStation ? null : STATION_ONLY;
  const compare = transaction.ifs.find((each) => each.key === put.key);
  if (compare === undefined) return "it must be compared with what is there";
  const known = view.revisionOf(put.key);
  // Decided by something older: the compare fails, and its answer says what is there.
  if (compare.modRevision < known) return null;
  if (compare.modRevision > known) return "this voter does not know that revision yet";
  switch (entry.kind) {
    case "station":
      return ownRefusal(asker, entry.value.unit, entry.value.unit) ?? leased(put);
    case "term":
      // Only together with standing for the station.
      return transaction.puts?.some((other) => other.key === keys.station) ? null : STATION_ONLY;
    case "command":
      return commandRefusal(asker, entry.value, put);
    case "slice":
      return sliceRefusal(view, asker, entry.value);
    case "unit":
      return asker.isStation ? null : unitRefusal(view, asker, entry.value);
    case "disk":
      return asker.isStation ? null : diskRefusal(view, asker, entry.value);
    case "voter":
      return asker.isStation ? null : voterRefusal(view, asker, entry.value);
    case "unitUpdate":
      return ownRefusal(asker, entry.number, entry.value.unit);
    default:
      return asker.isStation ? null : STATION_ONLY;
  }
}

/** The put's value by its schema; a string says what is wrong with it. */
function readable(put: Put): StateEntry | string | null {
  try {
    return parseEntry(put.key, put.value);
  } catch (error) {
    if (error instanceof Fault) return error.message;
    throw error;
  }
}

function ownRefusal(asker: Asker, ...named: UnitNumber[]): string | null {
  return named.every((unit) => unit === asker.unit) ? null : "it is another unit's";
}

function leased(put: Put): string | null {
  return put.lease === undefined ? "it must hang on a lease" : null;
}

function commandRefusal(asker: Asker, record: CommandRecord, put: Put): string | null {
  if (asker.isStation) return null;
  if (record.state !== "asked") return STATION_ONLY;
  return ownRefusal(asker, record.unit) ?? leased(put);
}

function sliceRefusal(view: ClusterView, asker: Asker, next: SliceRecord): string | null {
  const current = view.slices.get(next.slice);
  if (current === undefined) return asker.isStation ? null : STATION_ONLY;
  const headIsHere = view.disks.get(next.head)?.unit === asker.unit;
  const asMember = headIsHere
    ? recordRefusal(current, next, next.head)
    : "its head is on another unit";
  if (asMember === null || !asker.isStation) return asMember;
  return recordRefusal(current, next, "station");
}

function unitRefusal(view: ClusterView, asker: Asker, next: UnitRecord): string | null {
  const current = view.units.get(next.number);
  if (current === undefined) return STATION_ONLY;
  const same =
    next.id === current.id &&
    next.publicKey === current.publicKey &&
    next.ula === current.ula &&
    next.role === current.role &&
    next.pool === current.pool &&
    next.state === current.state &&
    JSON.stringify(next.evacuation) === JSON.stringify(current.evacuation) &&
    JSON.stringify(next.maintenance) === JSON.stringify(current.maintenance);
  return ownRefusal(asker, next.number) ?? (same ? null : STATION_ONLY);
}

function diskRefusal(view: ClusterView, asker: Asker, next: DiskRecord): string | null {
  const current = view.disks.get(next.number);
  if (current === undefined) return STATION_ONLY;
  const same = next.uuid === current.uuid && next.unit === current.unit;
  if (!same || current.state === "gone" || next.state === "gone") return STATION_ONLY;
  if (next.incarnation < current.incarnation) return "incarnations only rise (R0)";
  return ownRefusal(asker, next.unit);
}

function voterRefusal(view: ClusterView, asker: Asker, next: VoterRecord): string | null {
  const current = view.voters.get(next.unit);
  const same = current?.memberId === next.memberId && current.ticket === next.ticket;
  // R12: a ticket is used or lost, never fresh again.
  if (!same || next.state === "fresh") return STATION_ONLY;
  return ownRefusal(asker, next.unit);
}

function deleteRefusal(view: ClusterView, asker: Asker, key: string): string | null {
  if (asker.isStation) return null;
  const parts = keyParts(key);
  switch (parts?.kind) {
    case "alive":
      return ownRefusal(asker, Number(parts.rest));
    case "station":
      return ownRefusal(asker, view.station?.unit ?? 0);
    case "command":
      return ownRefusal(asker, view.commands.get(parts.rest)?.unit ?? asker.unit);
    default:
      return STATION_ONLY;
  }
}
