// SPDX-License-Identifier: Apache-2.0
//
// For tests: runs inside a network namespace of its own with two veth pairs between its links,
// sends to and receives from itself over them, and prints what it saw as JSON.

import { LinkDatagrams } from "./datagram.ts";
import { addAddress, listLinks, removeAddress } from "./network.ts";

const PORT = 47444;
const GROUPS = { groupIpv4: "239.255.11.1", groupIpv6: "ff02::c41a" };

const before = listLinks().find((link) => link.name === "left");
const socket = await LinkDatagrams.open({ port: PORT, ...GROUPS });
const seen = new Set<string>();
socket.onPacket = (bytes, from) =>
  seen.add(`${new TextDecoder().decode(bytes)} from ${from.address} ${from.port}`);
const links = socket.refreshLinks();

await addAddress("left", "169.254.7.7", 16);
await addAddress("left", "169.254.7.7", 16);
await addAddress("left", "fd00:11::7", 64);
socket.refreshLinks();

const send = (text: string, address: string) => {
  const sent = socket.send(new TextEncoder().encode(text), address, PORT);
  if (!sent) seen.add(`${text} not sent`);
};
send("group6", `${GROUPS.groupIpv6}%left`);
send("group4", `${GROUPS.groupIpv4}%left`);
send("gone", "ff02::1%nosuchlink");
send("gone4", "239.255.11.1%nosuchlink");
send("noroute", "203.0.113.5");
// The kernel makes a new address's route a little later: sent until it came.
const starts = ["group6 from ", "unicast6 from ", "unicast4 from "];
const isSeen = () => starts.every((start) => [...seen].some((text) => text.startsWith(start)));
const deadline = performance.now() + 3000;
while (!isSeen() && performance.now() < deadline) {
  send("unicast6", "fd00:11::7");
  send("unicast4", "169.254.7.7");
  await new Promise((resolve) => setImmediate(resolve));
}
const during = listLinks().find((link) => link.name === "left");
await removeAddress("left", "fd00:11::7", 64);
await removeAddress("left", "fd00:11::7", 64);
const after = listLinks().find((link) => link.name === "left");

let taken = "";
try {
  await LinkDatagrams.open({ port: PORT, ...GROUPS });
} catch (cause) {
  taken = (cause as Error).message;
}
socket.close();
const names = links.map((link) => link.name).sort();
console.log(JSON.stringify({ names, before, during, after, seen: [...seen].sort(), taken }));
process.exit(0);
