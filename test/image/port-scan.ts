// SPDX-License-Identifier: Apache-2.0
//
// Which ports of a box are open: by knocking at all of them from the wire (TCP), and by the tables
// of its kernel (TCP and UDP, from /proc/net, proc_net(5)). The knock alone says nothing of UDP:
// Linux answers one closed UDP port a second, so that all of them would take 18 hours.

import type { InsideShell } from "./inside-shell.ts";

const PORTS = 65_535;
const KNOCKS_AT_ONCE = 200;
const KNOCK_MS = 10_000;
const LISTENING = "0A";
const UNCONNECTED = "07";

export interface OpenPort {
  protocol: "tcp" | "udp";
  port: number;
}

export interface Knocked {
  open: number[];
  /** No answer of any kind within the limit. */
  silent: number[];
}

export async function knockAtAll(host: string): Promise<Knocked> {
  const found: Knocked = { open: [], silent: [] };
  let next = 1;
  const knocker = async () => {
    while (next <= PORTS) {
      const port = next++;
      const answer = await knock(host, port);
      if (answer !== "closed") found[answer].push(port);
    }
  };
  await Promise.all(Array.from({ length: KNOCKS_AT_ONCE }, knocker));
  found.open.sort((a, b) => a - b);
  return found;
}

async function knock(host: string, port: number): Promise<"open" | "closed" | "silent"> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<"silent">((resolve) => {
    timer = setTimeout(() => resolve("silent"), KNOCK_MS);
  });
  const opening = Bun.connect({ hostname: host, port, socket: { data() {} } }).then(
    (socket) => {
      socket.terminate();
      return "open" as const;
    },
    (error: unknown) =>
      (error as { code?: string }).code === "ECONNREFUSED" ? ("closed" as const) : late,
  );
  try {
    return await Promise.race([opening, late]);
  } finally {
    clearTimeout(timer);
  }
}

export const SOCKETS_COMMAND =
  "for t in tcp tcp6 udp udp6 udplite raw raw6; do echo ==$t; cat /proc/net/$t; done";

/** What listens, whoever may reach it: sockets bound to a loopback address are left out. */
export function listeningFrom(tables: string): { ports: OpenPort[]; raw: number } {
  const ports = new Map<string, OpenPort>();
  let table = "";
  let raw = 0;
  for (const line of tables.split("\n")) {
    table = /^==(\w+)$/.exec(line)?.[1] ?? table;
    const row = /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ ([0-9A-F]{2}) /.exec(line);
    if (row === null) continue;
    const [, address = "", port = "", state = ""] = row;
    if (isLoopback(address)) continue;
    if (table.startsWith("raw")) raw++;
    const protocol = table.startsWith("tcp") ? "tcp" : "udp";
    if (table.startsWith("raw") || state !== (protocol === "tcp" ? LISTENING : UNCONNECTED)) {
      continue;
    }
    const number = Number.parseInt(port, 16);
    ports.set(`${protocol} ${number}`, { protocol, port: number });
  }
  return { ports: [...ports.values()], raw };
}

/** As the kernel writes addresses: 32-bit words, each in the machine's (little-endian) order. */
function isLoopback(address: string): boolean {
  if (address.length === 8) return address.endsWith("7F");
  if (address === "00000000000000000000000001000000") return true;
  return address.startsWith("0000000000000000FFFF0000") && address.endsWith("7F");
}

export async function listeningInside(shell: InsideShell, limitMs: number) {
  const { status, output } = await shell.run(SOCKETS_COMMAND, limitMs);
  if (!output.includes("==udp6")) throw new Error(`no tables (status ${status}): ${output}`);
  return listeningFrom(output);
}
