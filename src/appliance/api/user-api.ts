// SPDX-License-Identifier: Apache-2.0
//
// The routes about people and tokens: what the OpenAPI document shows of them, and what they do.

import { createRoute } from "@hono/zod-openapi";
import type { UserBackend } from "#appliance/user-backend.ts";
import type { Api } from "./api.ts";
import { PASSWORD_PATH } from "./convention.ts";
import { askerOf, knownOf } from "./roles.ts";
import { body, faults, json } from "./routes.ts";
import {
  AddTokenSchema,
  AddUserSchema,
  ChangeUserSchema,
  MadeTokenSchema,
  PasswordSchema,
  TokenPathSchema,
  TokensSchema,
  UserPathSchema,
  UserSchema,
  UsersSchema,
  WhoSchema,
} from "./user-schemas.ts";

const whoRoute = createRoute({
  method: "get",
  path: "/api/v1/whoami",
  summary: "Who asks, and what they may do",
  responses: { 200: json(WhoSchema, "who asks"), ...faults },
});
const usersRoute = createRoute({
  method: "get",
  path: "/api/v1/users",
  summary: "The people who can sign in at the pages",
  responses: { 200: json(UsersSchema, "all users"), ...faults },
});
const addUserRoute = createRoute({
  method: "post",
  path: "/api/v1/users",
  summary: "Add somebody who can sign in at the pages",
  request: { body: body(AddUserSchema) },
  responses: { 201: json(UserSchema, "added"), ...faults },
});
const changeUserRoute = createRoute({
  method: "patch",
  path: "/api/v1/users/{user}",
  summary: "Give a user another role, at once; the last administrator stays one",
  request: { params: UserPathSchema, body: body(ChangeUserSchema) },
  responses: { 200: json(UserSchema, "the user"), ...faults },
});
const removeUserRoute = createRoute({
  method: "delete",
  path: "/api/v1/users/{user}",
  summary: "Remove a user, whose sessions end; the last administrator stays",
  request: { params: UserPathSchema },
  responses: { 204: { description: "removed" }, ...faults },
});
const passwordRoute = createRoute({
  method: "put",
  path: PASSWORD_PATH,
  summary: "Set a user's password for the pages; whoever is signed in by the old one is out",
  request: { body: body(PasswordSchema) },
  responses: { 204: { description: "set" }, ...faults },
});
const tokensRoute = createRoute({
  method: "get",
  path: "/api/v1/tokens",
  summary: "The tokens that open the API, the owner's among them; never the tokens themselves",
  responses: { 200: json(TokensSchema, "all tokens"), ...faults },
});
const addTokenRoute = createRoute({
  method: "post",
  path: "/api/v1/tokens",
  summary: "Make a token; it is told once and kept nowhere",
  request: { body: body(AddTokenSchema) },
  responses: { 201: json(MadeTokenSchema, "made"), ...faults },
});
const removeTokenRoute = createRoute({
  method: "delete",
  path: "/api/v1/tokens/{token}",
  summary: "Void a token; the owner's is replaced by another claim instead",
  request: { params: TokenPathSchema },
  responses: { 204: { description: "void" }, ...faults },
});

export function addUsers(api: Api, users: UserBackend, unitName: () => string): void {
  api.openapi(whoRoute, (context) => {
    const { actor, role: own } = knownOf(askerOf(context.env), unitName());
    return context.json({ name: actor, role: own }, 200);
  });
  api.openapi(usersRoute, (context) => context.json({ users: users.list() }, 200));
  api.openapi(addUserRoute, async (context) =>
    context.json(await users.add(context.req.valid("json")), 201),
  );
  api.openapi(changeUserRoute, async (context) => {
    const { user } = context.req.valid("param");
    return context.json(await users.changeRole(user, context.req.valid("json").role), 200);
  });
  api.openapi(removeUserRoute, async (context) => {
    await users.remove(context.req.valid("param").user);
    return context.body(null, 204);
  });
  api.openapi(passwordRoute, async (context) => {
    const { user, password: typed } = context.req.valid("json");
    await users.setPassword(user, typed);
    return context.body(null, 204);
  });
  api.openapi(tokensRoute, (context) => context.json({ tokens: users.tokens() }, 200));
  api.openapi(addTokenRoute, async (context) =>
    context.json(await users.addToken(context.req.valid("json")), 201),
  );
  api.openapi(removeTokenRoute, async (context) => {
    await users.removeToken(context.req.valid("param").token);
    return context.body(null, 204);
  });
}
