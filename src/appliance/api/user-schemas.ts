// SPDX-License-Identifier: Apache-2.0
//
// What the API answers and takes about people and tokens, as zod schemas. What backends answer has
// the same shape: the compiler checks it below.

import { z } from "@hono/zod-openapi";
import { NAME_CHARACTERS_MAX } from "#base/limits.ts";
import { nameSchema } from "#cluster/name-schema.ts";
import { FIRST_USER, roleSchema } from "#cluster/user-state.ts";
import type { TokenView, UserView } from "#appliance/user-backend.ts";
import type { Same } from "./schemas.ts";

const role = roleSchema.describe(
  "admin: may do everything; viewer: sees everything, changes nothing",
);
const createdAtMs = z.number().int().min(0).describe("wall clock; 0: not known");
const password = z.string().max(1000).describe("10 to 200 characters");

export const UserSchema = z.object({ name: z.string(), role, createdAtMs }).openapi("User");
export const UsersSchema = z.object({ users: z.array(UserSchema) }).openapi("Users");
export const TokenSchema = z.object({ name: z.string(), role, createdAtMs }).openapi("Token");
export const TokensSchema = z.object({ tokens: z.array(TokenSchema) }).openapi("Tokens");
export const MadeTokenSchema = z
  .object({ token: z.string().describe("valid through every unit; told this once") })
  .openapi("MadeToken");
export const WhoSchema = z
  .object({ name: z.string().describe("as the events say it"), role })
  .openapi("Who");

export const AddUserSchema = z
  .strictObject({ name: nameSchema, role, password })
  .openapi("AddUser");
export const ChangeUserSchema = z.strictObject({ role }).openapi("ChangeUser");
export const AddTokenSchema = z.strictObject({ name: nameSchema, role }).openapi("AddToken");
export const PasswordSchema = z
  .strictObject({
    user: nameSchema.default(FIRST_USER).describe("whose it is"),
    password,
  })
  .openapi("Password");

const inPath = (name: string, example: string) =>
  z
    .string()
    .min(1)
    .max(NAME_CHARACTERS_MAX)
    .openapi({ param: { name, in: "path" }, description: "by name", example });
export const UserPathSchema = z.object({ user: inPath("user", "anna") });
export const TokenPathSchema = z.object({ token: inPath("token", "backup-script") });

/** Compiles only while each answer's schema says exactly what the backend's type says. */
export const USER_SCHEMAS_MATCH_BACKEND: [
  Same<z.infer<typeof UserSchema>, UserView>,
  Same<z.infer<typeof TokenSchema>, TokenView>,
] = [true, true];
