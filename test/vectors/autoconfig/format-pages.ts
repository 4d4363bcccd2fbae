// SPDX-License-Identifier: Apache-2.0
//
// Prints docs/formats/autoconfig.md and peer-channel.md from the struct tables of their formats:
//   bun test/vectors/autoconfig/format-pages.ts
// format-pages.test.ts fails when a page is not what this prints.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { structTable } from "#base/wire.ts";
import type { Rows, Struct } from "#base/wire.ts";
import * as auto from "#protocol/autoconfig/autoconfig.wire.ts";
import { PacketFault } from "#protocol/autoconfig/codec.ts";
import * as channel from "#protocol/peer-channel/channel.wire.ts";
import { refusalTable } from "#protocol/peer-channel/refusal.ts";

const FORMATS = join(import.meta.dir, "..", "..", "..", "docs", "formats");

function values(title: string, table: Record<string, number>): string {
  const rows = Object.entries(table).map(([name, value]) => `${value} ${name}`);
  return `${title}: ${rows.join(", ")}.\n`;
}

function table(made: Omit<Struct<Rows>, "view">): string {
  return structTable(made as Struct<Rows>);
}

function bytesOf(text: string): string {
  return JSON.stringify(text).replaceAll("\\u0000", "\\0");
}

function envelopePart(): string {
  return `# Auto-configuration, version ${auto.PACKET_VERSION}

Printed from the tables in \`src/protocol/autoconfig/autoconfig.wire.ts\`; do not edit.

How units find each other. One message is one UDP datagram of at most ${auto.PACKET_BYTES_MAX}
bytes on port ${auto.AUTOCONFIG_PORT} (changeable), to ${auto.GROUP_IPV6} and ${auto.GROUP_IPV4}
on every link, to directed broadcast addresses and configured peers, or to one unit. It is a
hint: nothing that matters changes before both units have proved themselves over a
[channel](peer-channel.md).

Integers are little-endian, addresses 16 bytes with IPv4 mapped (\`::ffff:192.0.2.7\`), text is
UTF-8 filled up with zeros and without control characters, reserved bytes are zero. A packet
with anything else is dropped.

## Packet

The data area follows this structure, the authenticator follows the data area (at most
${auto.DATA_BYTES_MAX} bytes).

${table(auto.PACKET)}
Magic is \`CNac\`. ${values("Message types", auto.MessageType)}
9 and 10 are kept for volume request and volume assignment, which go over REST (decision 0031).

## Authenticator

${values("Kinds", auto.AuthenticatorKind)}
- **joinSecret**: ${auto.HMAC_BYTES} bytes, HMAC-SHA256 of all bytes before it. The key is
  HKDF-SHA256 (RFC 5869) of the join secret (trimmed, NFC, UTF-8) with the salt
  \`cairn join secret v1\`, the info \`cairn autoconfig authenticator v1\` and 32 bytes. It is
  also the join proof of a unit startup.
- **unitKey**: of a unit without a secret; proves only that it is the unit it says it is, since
  a unit id is the first half of SHA-256 of the unit's Ed25519 key. Signed is
  ${bytesOf(auto.SIGNATURE_LABEL)} and all bytes before.

${table(auto.SIGNATURE)}
## Fresh, and not too many

Each unit counts its starts (boot counter) and its packets (sequence). A receiver takes each
pair once, none of a lower boot counter, and none older than the newest ${auto.REPLAY_WINDOW}. A
source may send ${auto.SOURCE_BURST} packets at once and then ${auto.SOURCE_PER_SECOND} a
second; all sources that have not proved themselves in the last ${auto.PROVED_MS / 1000} s
together ${auto.STRANGERS_BURST} and ${auto.STRANGERS_PER_SECOND}. An unproved peer never gets
an answer larger than its packet.

Why a packet is dropped:

| Reason | Means |
|---|---|
${Object.entries(PacketFault)
  .map(([name, text]) => `| ${name} | ${text} |`)
  .join("\n")}
`;
}

function messagesPart(): string {
  return `
## Data areas

### Unit startup

Unit to all. After it ${auto.CARDS_MAX} network cards at most, then
${auto.NETWORK_ADDRESSES_MAX} addresses at most.

${table(auto.UNIT_STARTUP)}
${table(auto.NETWORK_CARD)}
${table(auto.NETWORK_ADDRESS)}
${values("Flags", auto.StartupFlag)}
${values("Stages", auto.Stage)}
### Enquiry

Control station to unit.

${table(auto.ENQUIRY)}
${values("Wanted, bits", auto.Wanted)}
### Storage information

Unit to control station. After it the page's disk items, then its slice items; at most
${auto.STORAGE_PAGES_MAX} pages.

${table(auto.STORAGE_INFORMATION)}
${table(auto.STORE_DISK)}
${table(auto.STORE_SLICE)}
${values("Disk states", auto.DiskState)}
${values("Health", auto.Health)}
${values("Slice states", auto.SliceState)}
### Registered

Control station to unit.

${table(auto.REGISTERED)}
${values("Roles", auto.Role)}
### Heartbeat

Both ways.

${table(auto.HEARTBEAT)}
### Storage changed

Unit to control station.

${table(auto.STORAGE_CHANGED)}
${values("Changes", auto.StorageChange)}
### Control station is

Control station to all. After it at most ${auto.STATION_ADDRESSES_MAX} addresses of 16 bytes.
Cluster state: 1 virgin, 2 used, 3 yielding.

${table(auto.CONTROL_STATION_IS)}
### Unit shutdown

Unit to all.

${table(auto.UNIT_SHUTDOWN)}
${values("Kinds", auto.ShutdownKind)}`;
}

/** docs/formats/autoconfig.md */
export function autoconfigPage(): string {
  return envelopePart() + messagesPart();
}

/** docs/formats/peer-channel.md */
export function channelPage(): string {
  const refusals = Object.entries(refusalTable).map(
    ([name, [number, text]]) => `| ${number} | ${name} | ${text} |`,
  );
  const textMax = channel.REFUSAL_TEXT_BYTES_MAX;
  return `# The channel between units, version ${channel.CHANNEL_VERSION}

Printed from the tables in \`src/protocol/peer-channel/channel.wire.ts\`; do not edit.

\`Noise_XXpsk3_25519_AESGCM_SHA256\` (Noise Protocol Framework, revision 34) over TCP, by
default on ports ${auto.AUTOCONFIG_PORT} (join, meet, control proxy)
and ${auto.LANE_PORT} (lanes). The psk is HKDF-SHA256 (RFC 5869) of the join secret
(trimmed, NFC, UTF-8) with the salt \`cairn join secret v1\`, the info
\`cairn peer channel psk v1\` and 32 bytes. Integers are little-endian.

Every frame has a header; sealed frames (accept, sealedRefusal, record) have it as associated
data. A record holds 1 to ${channel.RECORD_BYTES_MAX} plain bytes and a tag of 16; the
specification's own limit is 65,535 with the tag, ours are whole pages. Both ends rekey (section
4.2) a direction after each ${channel.REKEY_RECORDS} sealed frames of it; counters go on.

${table(channel.FRAME)}
${values("Kinds", channel.FrameKind)}
| Frame | From | Holds |
|---|---|---|
| hello | initiator | hello structure, Noise message 1 with an empty payload |
| handshake | responder | Noise message 2, payload: identity |
| handshake | initiator | Noise message 3, payload: identity |
| accept | responder | sealed, empty: the initiator is admitted |
| refusal, sealedRefusal | either | refusal structure, text (UTF-8, at most ${textMax} bytes) |
| record | either | sealed bytes of the stream |

The hello structure is the prologue of the handshake.

${table(channel.HELLO)}
${values("Purposes", channel.Purpose)}
${table(channel.IDENTITY)}
The signature (Ed25519) is over \`cairn peer channel identity v1 initiator\` or \`...
responder\`, a zero byte, the handshake hash before this message, the signer's X25519 static
key, and the first ${channel.IDENTITY_SIGNED_BYTES} bytes of the structure.

Lanes and proxy need one cluster on both ends; join a caller of no cluster and a responder of
one; meet two different clusters; adopt a caller of a cluster and a responder of none, over an
empty pre-shared key. Feature levels may be ${channel.FEATURE_LEVEL_DISTANCE_MAX}
apart. From first byte to open channel: at most ${channel.HANDSHAKE_MS_MAX / 1000} s.

${table(channel.REFUSAL)}
| Code | Name | Sentence |
|---:|---|---|
${refusals.join("\n")}
`;
}

export const PAGES = [
  { path: join(FORMATS, "autoconfig.md"), print: autoconfigPage },
  { path: join(FORMATS, "peer-channel.md"), print: channelPage },
] as const;

if (import.meta.main) for (const page of PAGES) writeFileSync(page.path, page.print());
