// SPDX-License-Identifier: Apache-2.0
//
// Commands about hosts: list, show, add, change, remove; and about which volumes they may use.

import type { HostView } from "#appliance/host-backend.ts";
import { Fault } from "#base/fault.ts";
import {
  AddHostSchema,
  ChangeHostSchema,
  HostSchema,
  HostsSchema,
} from "#appliance/api/host-schemas.ts";
import { sizeInWords } from "#appliance/api/words.ts";
import { VolumeSchema } from "#appliance/api/schemas.ts";
import {
  ASKING_FLAGS,
  type Call,
  type Command,
  DRY_RUN_FLAG,
  type Operand,
  WATCH_FLAG,
  WIDE_FLAG,
} from "./command.ts";
import { certificatesInWords } from "./commands-certificate.ts";
import { policyInWords } from "./commands-request.ts";
import { Misuse } from "./failure.ts";
import type { FlagDefinition } from "./flags.ts";
import { type Column, factsText, tableText } from "./table.ts";

const HOST: Operand = { name: "HOST", kind: "one" };
const VOLUME: Operand = { name: "VOLUME", kind: "one" };
const HOSTS: Operand = { name: "HOST", kind: "rest" };
const ADDRESS_FLAG: FlagDefinition = {
  name: "address",
  kind: "texts",
  value: "RANGE",
  sentence: "where it comes from: an address or 10.0.0.0/24; may be repeated",
};
const BY_CERTIFICATE_FLAG: FlagDefinition = {
  name: "by-certificate",
  kind: "yesno",
  sentence: "it comes from no address: it is known by its certificates alone (host certificate)",
};
const DRY_RUN_NOTE = "dry run: nothing was changed";
const PLACE = "/api/v1/hosts";

const columns: Column<HostView>[] = [
  { head: "HOST", cell: (host) => String(host.host) },
  { head: "NAME", cell: (host) => host.name },
  { head: "ADDRESSES", cell: (host) => host.addresses.join(", ") || "by certificate" },
  { head: "VOLUMES", cell: (host) => host.volumes.map(({ name }) => name).join(", ") || "none" },
  { head: "ATTACHED HERE", cell: attachedInWords },
];

function attachedInWords({ volumes, sessions }: HostView): string {
  const names = new Map(volumes.map(({ volume, name }) => [volume, name]));
  const here = new Set(sessions.map(({ volume }) => names.get(volume) ?? String(volume)));
  return [...here].join(", ");
}

const sessionColumns: Column<HostView["sessions"][number] & { name: string }>[] = [
  { head: "VOLUME", cell: (session) => session.name },
  { head: "FROM", cell: (session) => session.address },
  { head: "TLS", cell: (session) => (session.tls ? "yes" : "no") },
  {
    head: "KNOWN BY",
    cell: ({ certificate }) => (certificate === null ? "address" : "certificate"),
  },
  { head: "CONNECTIONS", cell: (session) => String(session.connections) },
];

function hostText(host: HostView): string {
  const facts = factsText([
    ["Host", `${host.name}, number ${host.host}`],
    ["Addresses", host.addresses.join(", ") || "none: by certificate alone"],
    ["Volumes", host.volumes.map(({ name }) => name).join(", ") || "none"],
    ["Policy", policyInWords(host.policy)],
    ["Asked for", sizeInWords(host.askedBytes)],
    ["Token", host.hasToken ? "it has one" : "none: it cannot ask"],
    ["Certificates", certificatesInWords(host)],
  ]);
  if (host.sessions.length === 0) return `${facts}\nIt has nothing attached through this unit.\n`;
  const names = new Map(host.volumes.map(({ volume, name }) => [volume, name]));
  const sessions = host.sessions.map((session) => {
    return { ...session, name: names.get(session.volume) ?? String(session.volume) };
  });
  return `${facts}\n${tableText(sessions, sessionColumns, { wide: false })}`;
}

/** Null: nothing is said of where it comes from. */
function addressesIn(call: Call): string[] | null {
  const addresses = call.flags.words("address");
  if (!call.flags.isSet("by-certificate")) return addresses === null ? null : [...addresses];
  if (addresses !== null) throw new Misuse("say --address or --by-certificate");
  return [];
}

function pathOf(call: Call): string {
  return `${PLACE}/${encodeURIComponent(call.operands[0] ?? "")}`;
}

const list: Command = {
  words: ["host", "list"],
  operands: [],
  flags: [...ASKING_FLAGS, WIDE_FLAG, WATCH_FLAG],
  sentence: "the hosts, and what each is assigned",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(HostsSchema, "GET", PLACE);
      const wide = call.flags.isSet("wide");
      await call.print(body, () => tableText(value.hosts, columns, { wide }));
    }),
};

const show: Command = {
  words: ["host", "show"],
  operands: [HOST],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "one host, by name or number, with what it has attached through this unit",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(HostSchema, "GET", pathOf(call));
      await call.print(body, () => hostText(value));
    }),
};

const add: Command = {
  words: ["host", "add"],
  operands: [{ name: "NAME", kind: "one" }],
  flags: [...ASKING_FLAGS, ADDRESS_FLAG, BY_CERTIFICATE_FLAG, DRY_RUN_FLAG],
  sentence: "add a host; it sees nothing before a volume is assigned to it",
  run: async (call) => {
    const addresses = addressesIn(call);
    if (addresses === null) {
      throw new Misuse("say --address, such as --address 10.0.0.7, or --by-certificate");
    }
    const request = { name: call.operands[0], addresses };
    if (call.flags.isSet("dry-run")) {
      const wish = AddHostSchema.safeParse(request);
      if (!wish.success) throw new Misuse(wish.error.issues[0]?.message ?? "it cannot be added");
      const { value } = await call.ask(HostsSchema, "GET", PLACE);
      if (value.hosts.some(({ name }) => name === wish.data.name)) {
        throw new Fault("conflict", `there is a host ${wish.data.name} already`);
      }
      await call.print(wish.data, () => `${wish.data.name} would be added\n`);
      await call.note(DRY_RUN_NOTE);
      return 0;
    }
    const { value, body } = await call.ask(HostSchema, "POST", PLACE, request);
    await call.print(body, () => hostText(value));
    return 0;
  },
};

const change: Command = {
  words: ["host", "change"],
  operands: [HOST],
  flags: [
    ...ASKING_FLAGS,
    ADDRESS_FLAG,
    BY_CERTIFICATE_FLAG,
    { name: "rename", kind: "text", value: "NAME", sentence: "another name" },
    DRY_RUN_FLAG,
  ],
  sentence: "say where a host comes from, instead of what was said before; or rename it",
  run: async (call) => {
    const addresses = addressesIn(call);
    const name = call.flags.word("rename");
    if (addresses === null && name === null) {
      throw new Misuse("say --address, --by-certificate or --rename");
    }
    const request = {
      ...(addresses === null ? {} : { addresses }),
      ...(name === null ? {} : { name }),
    };
    if (call.flags.isSet("dry-run")) {
      const wish = ChangeHostSchema.safeParse(request);
      if (!wish.success) throw new Misuse(wish.error.issues[0]?.message ?? "it cannot be changed");
      const known = await call.ask(HostSchema, "GET", pathOf(call));
      const { name: called = known.value.name, addresses: from } = wish.data;
      const places = from ?? known.value.addresses;
      const would = { ...known.value, name: called, addresses: places };
      await call.print(would, () => hostText(would));
      await call.note(DRY_RUN_NOTE);
      return 0;
    }
    const { value, body } = await call.ask(HostSchema, "PATCH", pathOf(call), request);
    await call.print(body, () => hostText(value));
    return 0;
  },
};

const remove: Command = {
  words: ["host", "remove"],
  operands: [HOST],
  flags: [
    ...ASKING_FLAGS,
    { name: "yes", kind: "yesno", sentence: "do not ask: what it has attached is cut off" },
    DRY_RUN_FLAG,
  ],
  sentence: "remove a host; what it has attached ends at once, volumes stay",
  run: removeHost,
};

async function removeHost(call: Call): Promise<number> {
  const { value, body } = await call.ask(HostSchema, "GET", pathOf(call));
  if (call.flags.isSet("dry-run")) {
    await call.print(body, () => hostText(value));
    await call.note(`${value.name} would be removed; ${DRY_RUN_NOTE}`);
    return 0;
  }
  if (!call.flags.isSet("yes") && value.volumes.length > 0) {
    const what = value.volumes.map(({ name }) => name).join(", ");
    const question = `${value.name} is cut off from ${what}. Type its name to go on: `;
    const answer = await call.machine.ask(question);
    if (answer === null) throw new Misuse("removing needs --yes where nobody can be asked");
    if (answer.trim() !== value.name) throw new Misuse("not removed: that is not its name");
  }
  await call.askPlain("DELETE", `${PLACE}/${value.host}`);
  await call.print({ removed: value }, () => `${value.name} is removed\n`);
  return 0;
}

/** `volume assign` and `volume revoke`: the same for each of the hosts named. */
function assignment(options: { verb: string; method: "PUT" | "DELETE"; sentence: string }) {
  const { verb, method, sentence } = options;
  const command: Command = {
    words: ["volume", verb],
    operands: [VOLUME, HOSTS],
    flags: [...ASKING_FLAGS, DRY_RUN_FLAG],
    sentence,
    run: async (call) => {
      const [volume = "", ...hosts] = call.operands;
      if (hosts.length === 0) throw new Misuse("say which hosts, by name or number");
      const path = `/api/v1/volumes/${encodeURIComponent(volume)}`;
      const isTry = call.flags.isSet("dry-run");
      // All of them are looked up first, so that a wrong name leaves the others as they are.
      for (const host of hosts) {
        await call.ask(HostSchema, "GET", `${PLACE}/${encodeURIComponent(host)}`);
      }
      let answer = await call.ask(VolumeSchema, "GET", path);
      for (const host of isTry ? [] : hosts) {
        const place = `${path}/hosts/${encodeURIComponent(host)}`;
        answer = await call.ask(VolumeSchema, method, place);
      }
      const { value, body } = answer;
      const who = value.hosts.map(({ name }) => name).join(", ") || "nobody";
      await call.print(body, () => `${value.name} is assigned to ${who}\n`);
      if (isTry) await call.note(DRY_RUN_NOTE);
      return 0;
    },
  };
  return command;
}

const assign = assignment({
  verb: "assign",
  method: "PUT",
  sentence: "assign a volume to hosts, besides those that have it",
});
const revoke = assignment({
  verb: "revoke",
  method: "DELETE",
  sentence: "take a volume from hosts; what they have attached of it ends at once",
});

export const hostCommands: readonly Command[] = [list, show, add, change, remove, assign, revoke];
