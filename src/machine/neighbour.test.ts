// SPDX-License-Identifier: Apache-2.0
//
// Announcements byte by byte, as RFC 826 and RFC 4861 print them, and as this machine's kernel
// takes them in another network namespace: what it remembers of an address changes.

import { expect, test } from "bun:test";
import { announcement } from "./neighbour.ts";

const MAC = Uint8Array.fromHex("020000000007");

test("IPv4 → a gratuitous ARP request, to all", () => {
  // Written out by hand from RFC 826.
  expect(announcement("198.51.100.7", MAC).toHex()).toBe(
    "ffffffffffff0200000000070806" +
      "0001080006040001" +
      "020000000007c6336407" +
      "000000000000c6336407",
  );
});

test("IPv6 → an unsolicited neighbour advertisement that overrides, to all nodes", () => {
  const frame = announcement("2001:db8::7", MAC);
  // Written out by hand from RFC 8200 and RFC 4861; the checksum by RFC 4443.
  const address = "20010db8000000000000000000000007";
  const head = "33330000000102000000000786dd" + "6000000000203aff";
  const checksum = frame.subarray(56, 58).toHex();
  expect(frame.toHex()).toBe(
    `${head}${address}ff020000000000000000000000000001` +
      `8800${checksum}20000000${address}0201020000000007`,
  );
  let sum = 32 + 58;
  for (let at = 22; at < frame.length; at += 2) {
    sum += ((frame[at] as number) << 8) | (frame[at + 1] as number);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  expect(sum).toBe(0xffff); // what a receiver checks
});

test("what is no address → refused", () => {
  expect(() => announcement("nowhere", MAC)).toThrow("no IP address");
});

/** Two machines on one cable: `far` hears of an address, then that it is elsewhere. */
const SCRIPT = (file: string) => `
  const { announcement, sendFrame } = await import(${JSON.stringify(file)});
  const run = (line) => {
    const made = Bun.spawnSync(line.split(" "));
    if (made.exitCode !== 0) throw new Error(line + ": " + made.stderr.toString());
    return made.stdout.toString();
  };
  run("ip link add near type veth peer name far");
  run("ip link set near up");
  run("ip link set far up");
  run("ip address add 198.51.100.1/24 dev far");
  run("ip address add 2001:db8::1/64 dev far nodad");
  const addresses = ["198.51.100.7", "2001:db8::7"];
  const [old, mac] = ["02:00:00:00:00:01", Uint8Array.fromHex("020000000007")];
  const seen = () =>
    addresses.map((one) => run("ip neigh show " + one).match(/lladdr (\\S+)/)?.[1]);
  for (const one of addresses) {
    run("ip neigh replace " + one + " lladdr " + old + " dev far nud stale");
  }
  const before = seen();
  for (const one of addresses) sendFrame("near", announcement(one, mac));
  while (seen().includes(old)) await Bun.sleep(10);
  console.log(JSON.stringify([before, seen()]));
`;

test("the kernel of another machine → remembers the new place", async () => {
  const script = SCRIPT(`${import.meta.dir}/neighbour.ts`);
  const words = ["unshare", "--user", "--map-root-user", "--net", process.execPath, "-e", script];
  await using child = Bun.spawn(words, { stdout: "pipe", stderr: "pipe" });
  expect(await child.stderr.text()).toBe("");
  const [before, after] = JSON.parse(await child.stdout.text()) as string[][];
  expect(before).toEqual(Array(2).fill("02:00:00:00:00:01"));
  expect(after).toEqual(Array(2).fill("02:00:00:00:00:07"));
}, 30_000);
