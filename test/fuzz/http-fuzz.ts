// SPDX-License-Identifier: Apache-2.0
//
// Asks a served API everything that its OpenAPI document names, wrongly: values of other types and
// lengths, no body, another body, no JSON; by nobody, by strangers, by pages of others, and by the
// owner. It knows the document and nothing of the code behind it. One seed, one run.
//
// What must hold: an answer is never 5xx, and its status, content type and body are as the document
// says (contract.ts), faults and successes alike; whoever shows no valid credential gets no success
// and changes nothing.

import { Prng } from "#base/prng.ts";
import { Contract } from "./contract.ts";
import type { Document, Operation, Parameter, Schema } from "./contract.ts";

/** Past what a body may have (api/convention.ts), said or not. */
const BODY_BYTES_PAST = (64 << 10) + 1;
const LONG_CHARACTERS = 5000;
const ANSWER_MS = 20_000;
const SHOWN_CHARACTERS = 300;

export interface FuzzDoor {
  /** Such as http://127.0.0.1:7480. */
  url: string;
  /** The owner's. */
  token: string;
  /** A host's own; null: without. */
  hostToken: string | null;
}

export interface FuzzFigures {
  asked: number;
  operations: number;
  /** How often each status came. */
  statuses: Map<number, number>;
}

/** Who asks, and what they show; none of them may change anything, nor learn. */
const STRANGERS: readonly (readonly [who: string, headers: Record<string, string>])[] = [
  ["nobody", {}],
  ["a wrong token", { authorization: `Bearer ${"0".repeat(64)}` }],
  ["a long token", { authorization: `Bearer ${"a".repeat(LONG_CHARACTERS)}` }],
  ["no scheme", { authorization: "f".repeat(64) }],
  ["a wrong password", { authorization: `Basic ${btoa("cairn:guess")}` }],
  ["no base64", { authorization: "Basic ????" }],
  ["a guessed session", { cookie: `cairn-session=${"a".repeat(64)}` }],
  ["a session of TLS", { cookie: `__Host-cairn-session=${"a".repeat(64)}` }],
];

export class HttpFuzz {
  readonly #door: FuzzDoor;
  readonly #prng: Prng;
  readonly contract: Contract;
  readonly figures: FuzzFigures = { asked: 0, operations: 0, statuses: new Map() };

  private constructor(door: FuzzDoor, contract: Contract, seed: number) {
    this.#door = door;
    this.contract = contract;
    this.figures.operations = contract.operations.length;
    this.#prng = new Prng(seed);
  }

  static async of(door: FuzzDoor, seed: number): Promise<HttpFuzz> {
    const answer = await fetch(`${door.url}/api/v1/openapi.json`, {
      headers: { authorization: `Bearer ${door.token}` },
    });
    return new HttpFuzz(door, new Contract((await answer.json()) as Document), seed);
  }

  /** By whoever may not: every operation by every stranger, and under names that are not ours. */
  async byStrangers(): Promise<void> {
    const { hostToken, token } = this.#door;
    const strangers = [...STRANGERS];
    const owner = { authorization: `Bearer ${token}` };
    strangers.push(["a page of another origin", { ...owner, origin: "http://evil.example" }]);
    strangers.push(["a name that is not ours", { ...owner, host: "rebound.example" }]);
    strangers.push(["the owner's token as a password", basic(token)]);
    if (hostToken !== null) strangers.push(["a host", { authorization: `Bearer ${hostToken}` }]);
    for (const operation of this.contract.operations) {
      for (const [who, headers] of strangers) await this.#byStranger(operation, who, headers);
    }
  }

  async #byStranger(
    operation: Operation,
    who: string,
    headers: Record<string, string>,
  ): Promise<void> {
    const reads = operation.method === "GET";
    // A person's browser may look; a host may see and ask for what is its own.
    if (reads && who === "the owner's token as a password") return;
    if (who === "a host" && /\/api\/v1\/host(\/|$)/.test(operation.path)) return;
    const request = this.#request(operation, { valid: this.#prng.chance(0.5) });
    const answer = await this.#ask(operation, { ...request.headers, ...headers }, request);
    const isForeignName = who === "a name that is not ours";
    const isRefused = isForeignName ? answer.status === 421 : [401, 403].includes(answer.status);
    // The claim is open to all: its code is what is guarded.
    const isClaim = operation.path === "/api/v1/claim" && [400, 413, 429].includes(answer.status);
    if (!isRefused && !isClaim) throw this.#violation(operation, `${who} was answered`, answer);
  }

  /** By the owner: right and wrong requests to every operation, so many times. */
  async byOwner(rounds: number, options: { except?: readonly string[] } = {}): Promise<void> {
    const owner = { authorization: `Bearer ${this.#door.token}` };
    for (const operation of this.contract.operations) {
      if (options.except?.includes(`${operation.method} ${operation.path}`) === true) continue;
      for (let round = 0; round < rounds; round++) {
        const request = this.#request(operation, { valid: round === 0 });
        await this.#ask(operation, { ...request.headers, ...owner }, request);
      }
    }
  }

  async #ask(
    operation: Operation,
    headers: Record<string, string>,
    { path, body }: { path: string; body: string | null },
  ): Promise<{ status: number; text: string }> {
    this.figures.asked++;
    const { method } = operation;
    const given = await fetch(this.#door.url + path, {
      ...{ method, headers, redirect: "manual", signal: AbortSignal.timeout(ANSWER_MS) },
      ...(body === null || method === "GET" ? {} : { body }),
    });
    const isStream = given.headers.get("content-type")?.startsWith("text/event-stream") === true;
    const text = isStream ? "" : await given.text();
    if (isStream) await given.body?.cancel();
    const { status } = given;
    this.figures.statuses.set(status, (this.figures.statuses.get(status) ?? 0) + 1);
    const answer = { status, text };
    // 507 (RFC 4918, 11.5) says that the pool has no room: the server is well.
    const isWrong = status >= 500 && status !== 507;
    if (isWrong) throw this.#violation(operation, `5xx to ${path}, ${body}`, answer);
    // A path that was mangled may be another one's.
    const isOwn = path.split("?")[0]?.split("/").length === operation.path.split("/").length;
    if (!isOwn && status < 400) return answer;
    const contentType = given.headers.get("content-type");
    const why = this.contract.violation(operation, { status, contentType, text });
    if (why !== null) throw this.#violation(operation, `${path}, ${body}: ${why}`, answer);
    return answer;
  }

  #request(operation: Operation, { valid }: { valid: boolean }) {
    const headers: Record<string, string> = {};
    let { path } = operation;
    const query = new URLSearchParams();
    for (const parameter of operation.parameters) {
      const word = valid ? this.#sample(parameter) : this.#wrongWord(parameter);
      if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, escaped(word));
      else if (parameter.in === "query" && (!valid || this.#prng.chance(0.5))) {
        query.set(parameter.name, word);
      } else if (parameter.in === "header" && !valid) {
        headers[parameter.name] = word.replaceAll(/[^\x20-\x7e]/g, "?");
      }
    }
    const words = query.toString();
    const made = this.#body(operation, { valid });
    if (made.type !== null) headers["content-type"] = made.type;
    return { path: words === "" ? path : `${path}?${words}`, headers, body: made.text };
  }

  #sample({ schema = {}, example }: Parameter): string {
    return String(example ?? schema.example ?? this.#value(schema, 0) ?? "1");
  }

  #wrongWord(parameter: Parameter): string {
    return this.#prng.pick([
      this.#sample(parameter),
      "",
      "0",
      "-1",
      "1e308",
      "9".repeat(30),
      "a".repeat(LONG_CHARACTERS),
      "../../status",
      "..%2f..%2fstatus",
      "%00",
      "%ff%fe",
      "\u0000\u202e\ud83d\ude00",
      "' or 1=1 --",
      "null",
      "__proto__",
      "constructor",
    ]);
  }

  #body(
    { body }: Operation,
    { valid }: { valid: boolean },
  ): { type: string | null; text: string | null } {
    const [type = "application/json", described] = Object.entries(body ?? {})[0] ?? [];
    const value = described?.schema === undefined ? {} : this.#value(described.schema, 0);
    if (body === null) {
      return valid ? { type: null, text: null } : { type: "application/json", text: "{}" };
    }
    if (valid) return { type, text: type === "application/json" ? JSON.stringify(value) : "abc" };
    return this.#prng.pick<() => { type: string | null; text: string | null }>([
      () => ({ type, text: null }),
      () => ({ type, text: "" }),
      () => ({ type, text: "{" }),
      () => ({ type, text: "\ufeff{}\u0000" }),
      () => ({ type, text: "[".repeat(20_000) }),
      () => ({ type, text: JSON.stringify("x".repeat(BODY_BYTES_PAST)) }),
      () => ({ type: "text/plain", text: JSON.stringify(value) }),
      () => ({ type: "multipart/form-data", text: "--x" }),
      () => ({ type: null, text: JSON.stringify(value) }),
      () => ({ type, text: JSON.stringify(this.#wrongValue()) }),
      () => ({ type, text: JSON.stringify(this.#spoiled(value)) }),
      () => ({ type, text: JSON.stringify(this.#spoiled(value)) }),
      () => ({ type, text: JSON.stringify(this.#spoiled(value)) }),
      () => ({ type, text: '{"__proto__":{"isAdmin":true},"constructor":{"prototype":{}}}' }),
    ])();
  }

  /** With one of its parts made wrong, left out, or one more that nobody knows. */
  #spoiled(value: unknown): unknown {
    if (typeof value !== "object" || value === null) return this.#wrongValue();
    const copy = (Array.isArray(value) ? [...value] : { ...value }) as Record<string, unknown>;
    const names = Object.keys(copy);
    if (names.length === 0 || this.#prng.chance(0.1)) return { ...copy, unheardOf: 1 };
    const name = this.#prng.pick(names);
    if (this.#prng.chance(0.2)) delete copy[name];
    else if (this.#prng.chance(0.3)) copy[name] = this.#spoiled(copy[name]);
    else copy[name] = this.#wrongValue();
    return copy;
  }

  #wrongValue(): unknown {
    return this.#prng.pick<unknown>([
      null,
      true,
      -1,
      0,
      0.5,
      2 ** 53,
      1e308,
      "",
      "a".repeat(LONG_CHARACTERS),
      "\u0000\u001b[2J",
      "١٢٣",
      [],
      [[[[[[[[]]]]]]]],
      Array.from({ length: 2000 }, (_, at) => at),
      {},
      { a: { b: { c: {} } } },
      "2026-13-45T99:99:99Z",
    ]);
  }

  /** Something of this shape, as far as the document tells. */
  #value(schema: Schema, depth: number): unknown {
    if (depth > 8) return null;
    if (schema.$ref !== undefined) return this.#value(this.#named(schema.$ref), depth + 1);
    if (schema.default !== undefined && this.#prng.chance(0.5)) return schema.default;
    if (schema.const !== undefined) return schema.const;
    if (schema.enum !== undefined) return this.#prng.pick(schema.enum);
    const choice = schema.anyOf ?? schema.oneOf;
    if (choice !== undefined) return this.#value(this.#prng.pick(choice), depth + 1);
    if (schema.allOf !== undefined) {
      return Object.assign({}, ...schema.allOf.map((one) => this.#value(one, depth + 1)));
    }
    const kinds = Array.isArray(schema.type) ? schema.type : [schema.type ?? "object"];
    switch (this.#prng.pick(kinds)) {
      case "object":
        return this.#object(schema, depth);
      case "array":
        return Array.from({ length: schema.minItems ?? this.#prng.below(3) }, () =>
          this.#value(schema.items ?? {}, depth + 1),
        );
      case "integer":
      case "number":
        return Math.max(schema.minimum ?? 0, Math.min(schema.maximum ?? 1 << 20, 1 << 20));
      case "boolean":
        return this.#prng.chance(0.5);
      case "null":
        return null;
      default:
        return `fuzz-${this.#prng.below(1000)}`;
    }
  }

  #object({ properties = {}, required = [] }: Schema, depth: number): unknown {
    const made: Record<string, unknown> = {};
    for (const [name, schema] of Object.entries(properties)) {
      if (!required.includes(name) && this.#prng.chance(0.5)) continue;
      made[name] = this.#value(schema, depth + 1);
    }
    return made;
  }

  #named(reference: string): Schema {
    const name = reference.split("/").at(-1) ?? "";
    const found = this.contract.document.components?.schemas?.[name];
    if (found === undefined) throw new Error(`the document has no ${reference}`);
    return found;
  }

  #violation(
    { method, path }: Operation,
    what: string,
    answer: { status: number; text: string },
  ): Error {
    const said = answer.text.slice(0, SHOWN_CHARACTERS);
    return new Error(`${method} ${path}: ${what.slice(0, 600)} → ${answer.status} ${said}`);
  }
}

function basic(token: string): Record<string, string> {
  return { authorization: `Basic ${btoa(`cairn:${token}`)}` };
}

/** As a client writes it; what is no escape of its own stays as it is. */
function escaped(word: string): string {
  return /%[0-9a-f]{2}/i.test(word) || word.includes("/") ? word : encodeURIComponent(word);
}
