// SPDX-License-Identifier: Apache-2.0
//
// The edge where Faults become answers. A Fault says its code, number, message and hint under the
// table's HTTP status; anything else is our own bug: the log gets it, the client only hears
// "internal".

import { HTTPException } from "hono/http-exception";
import { AssertionFailure } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import type { Log } from "#base/world.ts";

export interface FaultBody {
  error: { code: string; number: number; message: string; hint: string };
}

export function faultBody(fault: Fault): FaultBody {
  const { code, number, message, hint } = fault;
  return { error: { code, number, message, hint } };
}

export function faultResponse(fault: Fault): Response {
  return Response.json(faultBody(fault), {
    status: fault.httpStatus,
    // No Basic here, or a browser would ask people for a password in a window of its own.
    headers: fault.code === "unauthorised" ? { "www-authenticate": 'Bearer realm="Cairn"' } : {},
  });
}

/** What a thrown thing is to the client. Assertions are not answered: they end the process. */
export function faultOf(thrown: unknown, log: Log, where: string): Fault {
  if (thrown instanceof Fault) return thrown;
  if (thrown instanceof AssertionFailure) throw thrown;
  if (thrown instanceof HTTPException) {
    // The framework's own refusals: no JSON in the body, a wrong content type.
    return new Fault("badRequest", httpExceptionDetail(thrown), { cause: thrown });
  }
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  log.write("error", "a request met a bug of ours", {
    where,
    error: `${error.name}: ${error.message}`,
    stack: error.stack ?? "",
  });
  return new Fault("internal", "the unit's log has the details", { cause: thrown });
}

function httpExceptionDetail(exception: HTTPException): string {
  if (exception.status === 415) return "send the body with Content-Type: application/json";
  return "the body is no JSON";
}
