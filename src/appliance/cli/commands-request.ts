// SPDX-License-Identifier: Apache-2.0
//
// Commands about volumes that hosts ask for by themselves: what a host may have and its token, said
// by the owner; the request itself and what became of it, asked by the host with that token; and
// the owner's answer.

import { layouts } from "#base/layout.ts";
import { Fault } from "#base/fault.ts";
import type { HostPolicyView, OwnHostView, RequestView } from "#appliance/host-backend.ts";
import { HOST_PATH } from "#appliance/api/convention.ts";
import {
  HostSchema,
  HostTokenSchema,
  OwnHostSchema,
  RequestSchema,
  RequestsSchema,
} from "#appliance/api/host-schemas.ts";
import { parseSize, sizeInWords, timeInWords } from "#appliance/api/words.ts";
import { fromHere } from "./appliance-places.ts";
import { attachmentsText } from "./commands-attach.ts";
import { ASKING_FLAGS, type Call, type Command, WATCH_FLAG } from "./command.ts";
import { Misuse } from "./failure.ts";
import type { FlagDefinition } from "./flags.ts";
import { type Column, factsText, tableText } from "./table.ts";

const PROTECTIONS = Object.keys(layouts).join("|");
const REQUESTS = "/api/v1/requests";
const HOSTS = "/api/v1/hosts";
const LOOK_EVERY_MS = 2000;

const columns: Column<RequestView>[] = [
  { head: "REQUEST", cell: ({ request }) => String(request) },
  { head: "HOST", cell: ({ hostName }) => hostName },
  { head: "VOLUME", cell: ({ name }) => name },
  { head: "SIZE", cell: ({ sizeBytes }) => sizeInWords(sizeBytes) },
  { head: "PROTECTION", cell: ({ protection }) => protection },
  { head: "POOL", cell: ({ pool }) => pool },
  { head: "STATE", cell: ({ state, why }) => (why === "" ? state : `${state}: ${why}`) },
  { head: "ASKED (UTC)", cell: ({ askedAtMs }) => timeInWords(askedAtMs) },
];

export function policyInWords({ quotaBytes, protections, pools, grants }: HostPolicyView): string {
  if (quotaBytes === 0) return "may ask for nothing";
  const as = protections.length === 0 ? "" : ` as ${protections.join(" or ")}`;
  const where = pools.length === 0 ? "" : ` in the pool ${pools.join(" or ")}`;
  const how = grants ? "at once" : "a person grants";
  return `may ask for ${sizeInWords(quotaBytes)}${as}${where}, ${how}`;
}

const list: Command = {
  words: ["request", "list"],
  operands: [],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "what hosts asked for: waiting, and lately answered",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(RequestsSchema, "GET", REQUESTS);
      await call.print(body, () => tableText(value.requests, columns, { wide: false }));
    }),
};

const REQUEST = { name: "REQUEST", kind: "one" } as const;

const grant: Command = {
  words: ["request", "grant"],
  operands: [REQUEST],
  flags: ASKING_FLAGS,
  sentence: "grant a request, also beyond the quota; done when it can be attached",
  run: async (call) => {
    const { value, body } = await call.ask(RequestSchema, "POST", `${pathOf(call)}/grant`);
    await call.print(body, () => `${value.hostName} has ${value.name}\n`);
    return 0;
  },
};

const refuse: Command = {
  words: ["request", "refuse"],
  operands: [REQUEST],
  flags: [
    ...ASKING_FLAGS,
    { name: "why", kind: "text", value: "TEXT", sentence: "told to the host" },
  ],
  sentence: "refuse a request",
  run: async (call) => {
    const why = call.flags.word("why") ?? "";
    const path = `${pathOf(call)}/refuse`;
    const { value, body } = await call.ask(RequestSchema, "POST", path, { why });
    await call.print(body, () => `${value.hostName} does not get ${value.name}\n`);
    return 0;
  },
};

function pathOf(call: Call): string {
  const [number = ""] = call.operands;
  if (!/^[1-9]\d{0,14}$/.test(number)) throw new Misuse("a request is meant by its number");
  return `${REQUESTS}/${number}`;
}

function hostPath(call: Call): string {
  return `${HOSTS}/${encodeURIComponent(call.operands[0] ?? "")}`;
}

const policy: Command = {
  words: ["host", "policy"],
  operands: [{ name: "HOST", kind: "one" }],
  flags: [
    ...ASKING_FLAGS,
    {
      name: "quota",
      kind: "size",
      value: "SIZE",
      sentence: "how much it may ask for in all; 0: nothing",
    },
    {
      name: "may-ask",
      kind: "texts",
      value: PROTECTIONS,
      sentence: "a protection that it may ask for; may be repeated; none: any",
    },
    {
      name: "in-pool",
      kind: "texts",
      value: "POOL",
      sentence: "a pool that it may ask in; may be repeated; none: the first pool",
    },
    {
      name: "grant",
      kind: "yesno",
      sentence: "what keeps to this is granted at once; else a person is asked",
    },
  ],
  sentence: "say what a host may have by asking for it; replaces what was said before",
  run: async (call) => {
    const quota = call.flags.word("quota");
    if (quota === null) throw new Misuse("--quota is needed, such as --quota 1T");
    const quotaBytes = quota === "0" ? 0 : parseSize(quota);
    if (quotaBytes === null) throw new Misuse(`--quota ${quota}: needs a size such as 1T`);
    const protections = call.flags.words("may-ask") ?? [];
    const pools = call.flags.words("in-pool") ?? [];
    const wanted = { quotaBytes, protections, pools, grants: call.flags.isSet("grant") };
    const { value, body } = await call.ask(HostSchema, "PATCH", hostPath(call), { policy: wanted });
    await call.print(body, () => `${value.name} ${policyInWords(value.policy)}\n`);
    return 0;
  },
};

const token: Command = {
  words: ["host", "token"],
  operands: [{ name: "HOST", kind: "one" }],
  flags: [
    ...ASKING_FLAGS,
    {
      name: "save",
      kind: "path",
      value: "FILE",
      sentence: "where the token goes, usually HOST-token; never over an older file",
    },
    { name: "void", kind: "yesno", sentence: "no new one, and the one before is void" },
  ],
  sentence: "make a token for a host to ask with; the one before is void",
  run: makeToken,
};

async function makeToken(call: Call): Promise<number> {
  const { value } = await call.ask(HostSchema, "GET", hostPath(call));
  const path = `${HOSTS}/${value.host}/token`;
  if (call.flags.isSet("void")) {
    await call.askPlain("DELETE", path);
    await call.print({ void: true }, () => `${value.name} has no token any more\n`);
    return 0;
  }
  const file = fromHere(call, call.flags.word("save") ?? `${value.name}-token`);
  // First the file: a token that cannot be kept is never made, and none is voided for it.
  const secret = await call.machine.reserveSecretFile(file);
  try {
    const answer = await call.ask(HostTokenSchema, "POST", path);
    await secret.fill(`${answer.value.token}\n`);
  } catch (error) {
    await secret.discard();
    throw error;
  }
  await call.print(
    { tokenFile: file },
    () => `The token of ${value.name} is in ${file}; it belongs on that host alone.\n`,
  );
  return 0;
}

const SIZE_FLAG: FlagDefinition = {
  name: "size",
  kind: "size",
  value: "SIZE",
  sentence: "such as 100G or 1.5T (binary units)",
};

const request: Command = {
  words: ["host", "request"],
  operands: [],
  flags: [
    ...ASKING_FLAGS,
    SIZE_FLAG,
    {
      name: "protection",
      kind: "text",
      value: PROTECTIONS,
      sentence: "copies on different units; mirror-2 if not said",
    },
    { name: "name", kind: "text", value: "NAME", sentence: "of the volume" },
    { name: "pool", kind: "text", value: "POOL", sentence: "where it is to lie" },
    { name: "until-answered", kind: "yesno", sentence: "until a person has answered" },
  ],
  sentence: "on a host, with its own token (--url, --token-file): ask for a volume",
  run: askVolume,
};

async function askVolume(call: Call): Promise<number> {
  const size = call.flags.word("size");
  const sizeBytes = size === null ? null : parseSize(size);
  if (sizeBytes === null) throw new Misuse("--size is needed, such as --size 100G");
  const { flags } = call;
  const [name, protection, pool] = [
    flags.word("name"),
    flags.word("protection"),
    flags.word("pool"),
  ];
  const wish = {
    sizeBytes,
    ...(name === null ? {} : { name }),
    ...(protection === null ? {} : { protection }),
    ...(pool === null ? {} : { pool }),
  };
  const asked = await call.ask(RequestSchema, "POST", `${HOST_PATH}/requests`, wish);
  const ended = call.flags.isSet("until-answered")
    ? await answered(call, asked.value)
    : asked.value;
  if (ended.state === "waiting") {
    await call.print(ended, () => tableText([ended], columns, { wide: false }));
    await call.note(
      "a person has to grant it; see cairn host status, or ask with --until-answered",
    );
    return 0;
  }
  const own = await call.ask(OwnHostSchema, "GET", HOST_PATH);
  const volume = own.value.volumes.find((one) => one.volume === ended.volume);
  await call.print(ended, () => `${ended.name} is there\n${volumesText(volume ? [volume] : [])}`);
  return 0;
}

/** Looks again until it is answered; a Fault when it was refused. */
async function answered(call: Call, first: RequestView): Promise<RequestView> {
  for (let seen = first; ;) {
    if (seen.state === "granted") return seen;
    if (seen.state === "refused") {
      throw new Fault("forbidden", `${seen.name} was refused${seen.why && `: ${seen.why}`}`);
    }
    await call.machine.pause(LOOK_EVERY_MS);
    const own = await call.ask(OwnHostSchema, "GET", HOST_PATH);
    const next = own.value.requests.find((one) => one.request === first.request);
    if (next === undefined) throw new Fault("notFound", `request ${first.request} is forgotten`);
    seen = next;
  }
}

type OwnVolume = OwnHostView["volumes"][number];
const volumeColumns: Column<OwnVolume>[] = [
  { head: "VOLUME", cell: ({ name }) => name },
  { head: "SIZE", cell: ({ sizeBytes }) => sizeInWords(sizeBytes) },
  { head: "PROTECTION", cell: ({ protection }) => protection },
  { head: "STATE", cell: ({ availability }) => availability },
  { head: "TLS", cell: ({ tls }) => tls },
  { head: "ATTACH AT", cell: ({ uris }) => uris[0] ?? "" },
];

function volumesText(volumes: readonly OwnVolume[]): string {
  return tableText(volumes, volumeColumns, { wide: false });
}

const status: Command = {
  words: ["host", "status"],
  operands: [],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "on a host, with its own token: its volumes, what is attached, its requests",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(OwnHostSchema, "GET", HOST_PATH);
      const attached = (await call.machine.attachments()).list();
      await call.print({ ...(body as object), attached }, () => {
        const facts = factsText([
          ["Host", `${value.name}, number ${value.host}`],
          ["Policy", policyInWords(value.policy)],
          ["Asked for", sizeInWords(value.askedBytes)],
        ]);
        const requests = tableText(value.requests, columns, { wide: false });
        const here = attached.length === 0 ? "" : `\n${attachmentsText(attached)}`;
        return `${facts}\n${volumesText(value.volumes)}${here}\n${requests}`;
      });
    }),
};

export const requestCommands: readonly Command[] = [
  policy,
  token,
  request,
  status,
  list,
  grant,
  refuse,
];
