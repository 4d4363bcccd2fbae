// SPDX-License-Identifier: Apache-2.0
//
// The OpenAPI document of a running server as what its answers are held against: status, content
// type and body of each, successes and faults (OpenAPI 3.1, whose schemas are JSON Schema 2020-12).
// It knows the document and nothing of the code behind it.
//
// Stricter than the words of JSON Schema: a member of an answer that its schema does not name is a
// violation as well, since nobody could know of it from the document.

import Ajv2020, { type ValidateFunction } from "ajv/dist/2020.js";

export interface Schema {
  $ref?: string;
  type?: string | string[];
  enum?: unknown[];
  const?: unknown;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
  minimum?: number;
  maximum?: number;
  minItems?: number;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  default?: unknown;
  example?: unknown;
}
export interface Parameter {
  name: string;
  in: "path" | "query" | "header";
  schema?: Schema;
  example?: unknown;
}
type Content = Record<string, { schema?: Schema }>;
export interface Operation {
  method: string;
  path: string;
  parameters: Parameter[];
  /** By media type; null: it takes none. */
  body: Content | null;
  responses: Record<string, { content?: Content }>;
}
export interface Document {
  openapi: string;
  paths: Record<string, Record<string, unknown>>;
  components?: { schemas?: Record<string, Schema> };
}
export interface Answered {
  status: number;
  /** As the header says it; null: none. */
  contentType: string | null;
  text: string;
}

/** Members that hold schemas by name, and those that hold one or a list of them. */
const NAMED_SCHEMAS = ["properties", "patternProperties"];
const SHOWN_ERRORS = 3;

export class Contract {
  readonly document: Document;
  readonly operations: readonly Operation[];
  readonly #ajv: Ajv2020;
  readonly #validators = new Map<Schema, ValidateFunction>();
  /** Statuses of each operation that were answered and right. */
  readonly #seen = new Map<string, Set<number>>();

  /** Throws where the document itself, or a schema in it, is none. */
  constructor(document: Document) {
    if (!document.openapi.startsWith("3.1")) throw new Error("no document of OpenAPI 3.1");
    this.document = document;
    this.operations = operationsOf(document);
    this.#ajv = new Ajv2020({
      allErrors: true,
      allowUnionTypes: true,
      formats: { binary: true },
      // What OpenAPI adds to a schema, for readers.
      keywords: ["example", "components"],
    });
    const schemas = eachClosed(document.components?.schemas ?? {});
    this.#ajv.addSchema({ $id: ROOT, components: { schemas } });
    for (const operation of this.operations) {
      for (const schema of schemasOf(operation)) this.#validator(schema);
    }
  }

  /** What is wrong with an answer to an operation; null: it is as documented. */
  violation(operation: Operation, answer: Answered): string | null {
    const { status, contentType, text } = answer;
    const described = operation.responses[String(status)] ?? documentedFault(operation, status);
    if (described === undefined) return `status ${status} is not documented`;
    const type = contentType?.split(";")[0]?.trim() ?? null;
    const { content } = described;
    if (content === undefined) {
      if (text !== "") return `a body where none is documented: ${text.slice(0, 100)}`;
    } else {
      const media = type === null ? undefined : content[type];
      if (media === undefined) return `content type ${contentType} is not documented`;
      const why = this.#bodyViolation(media.schema, type, text);
      if (why !== null) return why;
    }
    const name = nameOf(operation);
    this.#seen.set(name, (this.#seen.get(name) ?? new Set()).add(status));
    return null;
  }

  #bodyViolation(schema: Schema | undefined, type: string | null, text: string): string | null {
    if (schema === undefined) return null;
    let value: unknown = text;
    if (type === "application/json") {
      try {
        value = JSON.parse(text);
      } catch {
        return "its body is no JSON"; // whatever else it is
      }
    }
    const validate = this.#validator(schema);
    if (validate(value)) return null;
    const errors = (validate.errors ?? []).slice(0, SHOWN_ERRORS).map((error) => {
      const more = JSON.stringify(error.params);
      return `${error.instancePath || "the body"} ${error.message ?? ""} ${more}`;
    });
    return `its body is not as documented: ${errors.join("; ")}`;
  }

  #validator(schema: Schema): ValidateFunction {
    const known = this.#validators.get(schema);
    if (known !== undefined) return known;
    const made = this.#ajv.compile(closed(schema, true));
    this.#validators.set(schema, made);
    return made;
  }

  /** `GET /api/v1/x`: a template's own operation; a Fault of ours if there is none. */
  operation(name: string): Operation {
    const found = this.operations.find((one) => nameOf(one) === name);
    if (found === undefined) throw new Error(`the document has no ${name}`);
    return found;
  }

  /** Operations that no success was seen of. */
  unreached(): string[] {
    return this.operations
      .map(nameOf)
      .filter((name) => ![...(this.#seen.get(name) ?? [])].some((status) => status < 300))
      .sort();
  }
}

export function nameOf({ method, path }: Pick<Operation, "method" | "path">): string {
  return `${method} ${path}`;
}

/** A default describes what is refused, never a success. */
function documentedFault({ responses }: Operation, status: number) {
  return status >= 400 ? responses["default"] : undefined;
}

function operationsOf(document: Document): Operation[] {
  const found: Operation[] = [];
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, described] of Object.entries(methods)) {
      const { parameters, requestBody, responses } = described as {
        parameters?: Parameter[];
        requestBody?: { content: Content };
        responses: Operation["responses"];
      };
      const what = { method: method.toUpperCase(), path, responses };
      found.push({ ...what, parameters: parameters ?? [], body: requestBody?.content ?? null });
    }
  }
  return found;
}

function schemasOf({ parameters, body, responses }: Operation): Schema[] {
  const contents = [body ?? {}, ...Object.values(responses).map(({ content }) => content ?? {})];
  const bodies = contents.flatMap((content) => Object.values(content));
  return [...parameters, ...bodies].flatMap(({ schema }) => (schema === undefined ? [] : [schema]));
}

const ROOT = "https://document.invalid/";

/**
 * The same schema with its references as addresses, and closed: members that it does not name are
 * none. Under `allOf` it stays open, since a part does not know the others' members.
 */
function closed(schema: unknown, isWhole: boolean): Record<string, unknown> {
  const made: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(schema as Record<string, unknown>)) {
    if (name === "$ref") made[name] = `${ROOT}${String(value)}`;
    else if (NAMED_SCHEMAS.includes(name)) made[name] = eachClosed(value as object);
    else if (Array.isArray(value) && ["anyOf", "oneOf", "allOf", "prefixItems"].includes(name)) {
      made[name] = value.map((one) => closed(one, name !== "allOf"));
    } else if (typeof value === "object" && value !== null && !LITERALS.includes(name)) {
      made[name] = Array.isArray(value) ? value : closed(value, true);
    } else made[name] = value;
  }
  const isObject = made["properties"] !== undefined && made["additionalProperties"] === undefined;
  return isObject && isWhole ? { ...made, additionalProperties: false } : made;
}

/** Members that hold values, not schemas. */
const LITERALS = ["default", "example", "const", "enum", "examples", "required"];

function eachClosed(schemas: object): Record<string, unknown> {
  const made = Object.entries(schemas).map(([name, one]) => [name, closed(one, true)] as const);
  return Object.fromEntries(made);
}
