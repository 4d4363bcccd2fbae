// SPDX-License-Identifier: Apache-2.0
//
// The messages of auto-configuration as objects, and their data areas as bytes
// (autoconfig.wire.ts). Reading never throws: a data area that is not exactly what its tables say
// is null. Writing takes what this unit made itself, so there a wrong value is our bug; only text
// and lists that may grow with a machine (names, network cards, addresses) are cut to what fits.

import { assert } from "#base/assert.ts";
import { ADDRESS_BYTES } from "./address.ts";
import * as wire from "./autoconfig.wire.ts";
import type * as types from "./message-types.ts";

const views = {
  startup: wire.UNIT_STARTUP.view(),
  card: wire.NETWORK_CARD.view(),
  address: wire.NETWORK_ADDRESS.view(),
  enquiry: wire.ENQUIRY.view(),
  storage: wire.STORAGE_INFORMATION.view(),
  disk: wire.STORE_DISK.view(),
  slice: wire.STORE_SLICE.view(),
  registered: wire.REGISTERED.view(),
  heartbeat: wire.HEARTBEAT.view(),
  changed: wire.STORAGE_CHANGED.view(),
  station: wire.CONTROL_STATION_IS.view(),
  shutdown: wire.UNIT_SHUTDOWN.view(),
};

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });
const CONTROL_CHARACTER = /[\u0000-\u001f\u007f-\u009f]/;

/** The data area. */
export function writeData(message: types.Message): Uint8Array {
  const data = writeByType(message);
  assert(data.length <= wire.DATA_BYTES_MAX, "a data area fits its packet");
  return data;
}

function writeByType(message: types.Message): Uint8Array {
  switch (message.type) {
    case wire.MessageType.unitStartup:
      return writeStartup(message);
    case wire.MessageType.enquiry:
      return writeEnquiry(message);
    case wire.MessageType.storageInformation:
      return writeStorage(message);
    case wire.MessageType.registered:
      return writeRegistered(message);
    case wire.MessageType.heartbeat:
      return writeHeartbeat(message);
    case wire.MessageType.storageChanged:
      return writeChanged(message);
    case wire.MessageType.controlStationIs:
      return writeStation(message);
    case wire.MessageType.unitShutdown:
      return writeShutdown(message);
  }
}

/** The message, or null when the bytes are not one of that type. Keeps nothing of `data`. */
export function readData(type: wire.MessageType, data: Uint8Array): types.Message | null {
  switch (type) {
    case wire.MessageType.unitStartup:
      return readStartup(data);
    case wire.MessageType.enquiry:
      return readEnquiry(data);
    case wire.MessageType.storageInformation:
      return readStorage(data);
    case wire.MessageType.registered:
      return readRegistered(data);
    case wire.MessageType.heartbeat:
      return readHeartbeat(data);
    case wire.MessageType.storageChanged:
      return readChanged(data);
    case wire.MessageType.controlStationIs:
      return readStation(data);
    case wire.MessageType.unitShutdown:
      return readShutdown(data);
  }
}

// Unit startup ------------------------------------------------------------------------------------

function writeStartup(message: types.UnitStartup): Uint8Array {
  const cards = message.cards.slice(0, wire.CARDS_MAX);
  const addresses = message.addresses
    .filter((one) => one.card < cards.length)
    .slice(0, wire.NETWORK_ADDRESSES_MAX);
  const listBytes =
    cards.length * wire.NETWORK_CARD.size + addresses.length * wire.NETWORK_ADDRESS.size;
  const data = new Uint8Array(wire.UNIT_STARTUP.size + listBytes);
  const view = views.startup.at(data, 0);
  writeText(view.name, message.name);
  writeText(view.softwareVersion, message.softwareVersion);
  view.publicKey = message.publicKey;
  view.clusterId = message.clusterId;
  view.clusterState = message.clusterState;
  view.stage = message.stage;
  view.flags =
    (message.joinOnly ? wire.StartupFlag.joinOnly : 0) |
    (message.spare ? wire.StartupFlag.spare : 0);
  view.cardCount = cards.length;
  view.addressCount = addresses.length;
  view.featureLevel = message.featureLevel;
  view.channelPort = message.channelPort;
  view.listeningMs = Math.min(Math.floor(message.listeningMs), 0xffffffff);
  let at = wire.UNIT_STARTUP.size;
  for (const card of cards) {
    const row = views.card.at(data, at);
    row.hardwareAddress = card.hardwareAddress;
    row.speedMegabits = card.speedMegabits;
    row.mtuBytes = card.mtuBytes;
    writeText(row.name, card.name);
    at += wire.NETWORK_CARD.size;
  }
  for (const one of addresses) {
    const row = views.address.at(data, at);
    row.address = one.address;
    row.prefixBits = one.prefixBits;
    row.card = one.card;
    at += wire.NETWORK_ADDRESS.size;
  }
  return data;
}

function readStartup(data: Uint8Array): types.UnitStartup | null {
  if (data.length < wire.UNIT_STARTUP.size) return null;
  const view = views.startup.at(data, 0);
  const { cardCount, addressCount, flags } = view;
  if (!view.reservedIsZero() || (flags & ~wire.STARTUP_FLAGS_ALL) !== 0) return null;
  if (cardCount > wire.CARDS_MAX || addressCount > wire.NETWORK_ADDRESSES_MAX) return null;
  const cardsEnd = wire.UNIT_STARTUP.size + cardCount * wire.NETWORK_CARD.size;
  if (data.length !== cardsEnd + addressCount * wire.NETWORK_ADDRESS.size) return null;
  const name = readText(view.name);
  const softwareVersion = readText(view.softwareVersion);
  const stage = oneOf(wire.Stage, view.stage);
  if (name === null || softwareVersion === null || stage === null) return null;
  const clusterState = view.clusterState;
  if (clusterState > 3) return null;
  const cards = readList(data, wire.UNIT_STARTUP.size, cardCount, wire.NETWORK_CARD.size, readCard);
  const addresses = readList(data, cardsEnd, addressCount, wire.NETWORK_ADDRESS.size, readAddress);
  if (cards === null || addresses === null) return null;
  if (addresses.some((one) => one.card >= cardCount)) return null;
  return {
    type: wire.MessageType.unitStartup,
    name,
    softwareVersion,
    publicKey: view.publicKey.slice(),
    clusterId: view.clusterId.slice(),
    clusterState,
    stage,
    joinOnly: (flags & wire.StartupFlag.joinOnly) !== 0,
    spare: (flags & wire.StartupFlag.spare) !== 0,
    featureLevel: view.featureLevel,
    channelPort: view.channelPort,
    listeningMs: view.listeningMs,
    cards,
    addresses,
  };
}

function readCard(data: Uint8Array, at: number): types.NetworkCard | null {
  const row = views.card.at(data, at);
  const name = readText(row.name);
  if (!row.reservedIsZero() || name === null) return null;
  const { speedMegabits, mtuBytes } = row;
  return { name, hardwareAddress: row.hardwareAddress.slice(), speedMegabits, mtuBytes };
}

function readAddress(data: Uint8Array, at: number): types.NetworkAddress | null {
  const row = views.address.at(data, at);
  if (!row.reservedIsZero() || row.prefixBits > 128) return null;
  return { address: row.address.slice(), prefixBits: row.prefixBits, card: row.card };
}

// Enquiry and storage information -----------------------------------------------------------------

function writeEnquiry(message: types.Enquiry): Uint8Array {
  const data = new Uint8Array(wire.ENQUIRY.size);
  const view = views.enquiry.at(data, 0);
  view.enquiryNumber = message.enquiryNumber;
  view.wanted = message.wanted;
  view.term = message.term;
  return data;
}

function readEnquiry(data: Uint8Array): types.Enquiry | null {
  if (data.length !== wire.ENQUIRY.size) return null;
  const view = views.enquiry.at(data, 0);
  const { enquiryNumber, wanted, term } = view;
  if (!view.reservedIsZero() || (wanted & ~wire.WANTED_ALL) !== 0) return null;
  if (!areCounts(term)) return null;
  return { type: wire.MessageType.enquiry, enquiryNumber, wanted, term };
}

function writeStorage(message: types.StorageInformation): Uint8Array {
  const { disks, slices } = message;
  const listBytes = disks.length * wire.STORE_DISK.size + slices.length * wire.STORE_SLICE.size;
  const data = new Uint8Array(wire.STORAGE_INFORMATION.size + listBytes);
  const view = views.storage.at(data, 0);
  view.enquiryNumber = message.enquiryNumber;
  view.page = message.page;
  view.pageCount = message.pageCount;
  view.diskCount = disks.length;
  view.sliceCount = slices.length;
  view.leftOut = message.leftOut;
  view.revision = message.revision;
  let at = wire.STORAGE_INFORMATION.size;
  for (const disk of disks) {
    const row = views.disk.at(data, at);
    row.diskNumber = disk.diskNumber;
    row.state = disk.state;
    row.health = disk.health;
    row.diskId = disk.diskId;
    row.sizeBytes = disk.sizeBytes;
    row.usedBytes = disk.usedBytes;
    row.freeBytes = disk.freeBytes;
    writeText(row.path, disk.path);
    at += wire.STORE_DISK.size;
  }
  for (const slice of slices) {
    const row = views.slice.at(data, at);
    row.diskNumber = slice.diskNumber;
    row.slice = slice.slice;
    row.volume = slice.volume;
    row.index = slice.index;
    row.mappedBytes = slice.mappedBytes;
    row.state = slice.state;
    at += wire.STORE_SLICE.size;
  }
  return data;
}

function readStorage(data: Uint8Array): types.StorageInformation | null {
  if (data.length < wire.STORAGE_INFORMATION.size) return null;
  const view = views.storage.at(data, 0);
  const { enquiryNumber, page, pageCount, diskCount, sliceCount, leftOut, revision } = view;
  if (pageCount < 1 || pageCount > wire.STORAGE_PAGES_MAX || page >= pageCount) return null;
  const disksEnd = wire.STORAGE_INFORMATION.size + diskCount * wire.STORE_DISK.size;
  if (data.length !== disksEnd + sliceCount * wire.STORE_SLICE.size) return null;
  if (!areCounts(revision)) return null;
  const start = wire.STORAGE_INFORMATION.size;
  const disks = readList(data, start, diskCount, wire.STORE_DISK.size, readDisk);
  const slices = readList(data, disksEnd, sliceCount, wire.STORE_SLICE.size, readSlice);
  if (disks === null || slices === null) return null;
  const type = wire.MessageType.storageInformation;
  return { type, enquiryNumber, page, pageCount, leftOut, revision, disks, slices };
}

function readDisk(data: Uint8Array, at: number): types.StoreDisk | null {
  const row = views.disk.at(data, at);
  const path = readText(row.path);
  const state = oneOf(wire.DiskState, row.state);
  const health = oneOf(wire.Health, row.health);
  if (!row.reservedIsZero() || path === null || state === null || health === null) return null;
  const { diskNumber, sizeBytes, usedBytes, freeBytes } = row;
  if (!areCounts(sizeBytes, usedBytes, freeBytes)) return null;
  const diskId = row.diskId.slice();
  return { diskNumber, diskId, state, health, sizeBytes, usedBytes, freeBytes, path };
}

function readSlice(data: Uint8Array, at: number): types.StoreSlice | null {
  const row = views.slice.at(data, at);
  const state = oneOf(wire.SliceState, row.state);
  const { diskNumber, slice, volume, index, mappedBytes } = row;
  if (!row.reservedIsZero() || state === null || !areCounts(mappedBytes)) return null;
  return { diskNumber, slice, volume, index, mappedBytes, state };
}

// Registered, heartbeat, storage changed ----------------------------------------------------------

function writeRegistered(message: types.Registered): Uint8Array {
  const data = new Uint8Array(wire.REGISTERED.size);
  const view = views.registered.at(data, 0);
  view.clusterId = message.clusterId;
  writeText(view.clusterName, message.clusterName);
  writeText(view.pool, message.pool);
  view.term = message.term;
  view.unitNumber = message.unitNumber;
  view.apiPort = message.apiPort;
  view.channelPort = message.channelPort;
  view.apiAddress = message.apiAddress;
  view.featureLevel = message.featureLevel;
  view.role = message.role;
  return data;
}

function readRegistered(data: Uint8Array): types.Registered | null {
  if (data.length !== wire.REGISTERED.size) return null;
  const view = views.registered.at(data, 0);
  const clusterName = readText(view.clusterName);
  const pool = readText(view.pool);
  const role = oneOf(wire.Role, view.role);
  if (!view.reservedIsZero() || clusterName === null || pool === null || role === null) return null;
  const { term, unitNumber, apiPort, channelPort, featureLevel } = view;
  if (!areCounts(term)) return null;
  const [clusterId, apiAddress] = [view.clusterId.slice(), view.apiAddress.slice()];
  const type = wire.MessageType.registered;
  const where = { apiAddress, apiPort, channelPort };
  return { type, clusterId, clusterName, pool, role, unitNumber, term, featureLevel, ...where };
}

function writeHeartbeat(message: types.Heartbeat): Uint8Array {
  const data = new Uint8Array(wire.HEARTBEAT.size);
  const view = views.heartbeat.at(data, 0);
  view.clusterId = message.clusterId;
  view.term = message.term;
  view.revision = message.revision;
  view.sizeBytes = message.sizeBytes;
  view.freeBytes = message.freeBytes;
  view.uptimeSeconds = Math.min(Math.floor(message.uptimeSeconds), 0xffffffff);
  view.loadPermille = message.loadPermille;
  view.health = message.health;
  return data;
}

function readHeartbeat(data: Uint8Array): types.Heartbeat | null {
  if (data.length !== wire.HEARTBEAT.size) return null;
  const view = views.heartbeat.at(data, 0);
  const health = oneOf(wire.Health, view.health);
  const { term, revision, sizeBytes, freeBytes, uptimeSeconds, loadPermille } = view;
  if (!view.reservedIsZero() || health === null) return null;
  if (!areCounts(term, revision, sizeBytes, freeBytes)) return null;
  const seen = { term, revision, sizeBytes, freeBytes, uptimeSeconds, loadPermille, health };
  return { type: wire.MessageType.heartbeat, clusterId: view.clusterId.slice(), ...seen };
}

function writeChanged(message: types.StorageChanged): Uint8Array {
  const data = new Uint8Array(wire.STORAGE_CHANGED.size);
  const view = views.changed.at(data, 0);
  view.diskId = message.diskId;
  view.diskNumber = message.diskNumber;
  view.change = message.change;
  view.sizeBytes = message.sizeBytes;
  writeText(view.path, message.path);
  writeText(view.reason, message.reason);
  return data;
}

function readChanged(data: Uint8Array): types.StorageChanged | null {
  if (data.length !== wire.STORAGE_CHANGED.size) return null;
  const view = views.changed.at(data, 0);
  const change = oneOf(wire.StorageChange, view.change);
  const path = readText(view.path);
  const reason = readText(view.reason);
  if (!view.reservedIsZero() || change === null || path === null || reason === null) return null;
  const { diskNumber, sizeBytes } = view;
  if (!areCounts(sizeBytes)) return null;
  const diskId = view.diskId.slice();
  const type = wire.MessageType.storageChanged;
  return { type, change, diskId, diskNumber, sizeBytes, path, reason };
}

// Control station is, unit shutdown ---------------------------------------------------------------

function writeStation(message: types.ControlStationIs): Uint8Array {
  const addresses = message.addresses.slice(0, wire.STATION_ADDRESSES_MAX);
  const data = new Uint8Array(wire.CONTROL_STATION_IS.size + addresses.length * ADDRESS_BYTES);
  const view = views.station.at(data, 0);
  view.clusterId = message.clusterId;
  writeText(view.clusterName, message.clusterName);
  view.stationUnitId = message.stationUnitId;
  view.publicKey = message.publicKey;
  view.groupAddress = message.groupAddress;
  view.term = message.term;
  view.clusterState = message.clusterState;
  view.addressCount = addresses.length;
  view.featureLevel = message.featureLevel;
  view.channelPort = message.channelPort;
  view.apiPort = message.apiPort;
  view.unitCount = message.unitCount;
  for (const [index, address] of addresses.entries()) {
    data.set(address, wire.CONTROL_STATION_IS.size + index * ADDRESS_BYTES);
  }
  return data;
}

function readStation(data: Uint8Array): types.ControlStationIs | null {
  if (data.length < wire.CONTROL_STATION_IS.size) return null;
  const view = views.station.at(data, 0);
  const { addressCount, clusterState, term, featureLevel, channelPort, apiPort, unitCount } = view;
  if (addressCount > wire.STATION_ADDRESSES_MAX) return null;
  if (data.length !== wire.CONTROL_STATION_IS.size + addressCount * ADDRESS_BYTES) return null;
  const clusterName = readText(view.clusterName);
  if (!view.reservedIsZero() || clusterName === null || !areCounts(term)) return null;
  if (clusterState < 1 || clusterState > 3) return null;
  const addresses: Uint8Array[] = [];
  for (let at = wire.CONTROL_STATION_IS.size; at < data.length; at += ADDRESS_BYTES) {
    addresses.push(data.slice(at, at + ADDRESS_BYTES));
  }
  return {
    type: wire.MessageType.controlStationIs,
    clusterId: view.clusterId.slice(),
    clusterName,
    clusterState,
    stationUnitId: view.stationUnitId.slice(),
    publicKey: view.publicKey.slice(),
    groupAddress: view.groupAddress.slice(),
    term,
    featureLevel,
    channelPort,
    apiPort,
    unitCount,
    addresses,
  };
}

function writeShutdown(message: types.UnitShutdown): Uint8Array {
  const data = new Uint8Array(wire.UNIT_SHUTDOWN.size);
  const view = views.shutdown.at(data, 0);
  view.clusterId = message.clusterId;
  view.expectedReturnSeconds = message.expectedReturnSeconds;
  view.kind = message.kind;
  writeText(view.reason, message.reason);
  return data;
}

function readShutdown(data: Uint8Array): types.UnitShutdown | null {
  if (data.length !== wire.UNIT_SHUTDOWN.size) return null;
  const view = views.shutdown.at(data, 0);
  const kind = oneOf(wire.ShutdownKind, view.kind);
  const reason = readText(view.reason);
  if (!view.reservedIsZero() || kind === null || reason === null) return null;
  const { expectedReturnSeconds } = view;
  const type = wire.MessageType.unitShutdown;
  return { type, clusterId: view.clusterId.slice(), kind, expectedReturnSeconds, reason };
}

// Pieces ------------------------------------------------------------------------------------------

/** Cut at a character where it is too long; always leaves a zero at the end. */
function writeText(field: Uint8Array, text: string): void {
  const cleaned = text.replace(new RegExp(CONTROL_CHARACTER, "g"), " ");
  field.fill(0);
  encoder.encodeInto(cleaned, field.subarray(0, field.length - 1));
}

/** Null unless it is UTF-8 without control characters and zero from its end on. */
function readText(field: Uint8Array): string | null {
  const end = field.indexOf(0);
  if (end < 0 || field.subarray(end).some((byte) => byte !== 0)) return null;
  let text: string;
  try {
    text = decoder.decode(field.subarray(0, end));
  } catch {
    return null;
  }
  return CONTROL_CHARACTER.test(text) ? null : text;
}

function readList<T>(
  data: Uint8Array,
  start: number,
  count: number,
  size: number,
  read: (data: Uint8Array, at: number) => T | null,
): T[] | null {
  const list: T[] = [];
  for (let index = 0; index < count; index++) {
    const one = read(data, start + index * size);
    if (one === null) return null;
    list.push(one);
  }
  return list;
}

function oneOf<T extends number>(table: Record<string, T>, value: number): T | null {
  return Object.values(table).find((known) => known === value) ?? null;
}

/** 64-bit values past 2^53 read as Infinity (base/wire.ts). */
function areCounts(...values: number[]): boolean {
  return values.every((value) => Number.isSafeInteger(value));
}
