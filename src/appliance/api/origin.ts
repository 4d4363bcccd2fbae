// SPDX-License-Identifier: Apache-2.0
//
// Whose page asks, by the Origin header (https://www.rfc-editor.org/rfc/rfc6454): browsers send it
// with whatever may change something.

export function originOf(request: Request): "own" | "another" | "none" {
  const origin = request.headers.get("origin");
  if (origin === null) return "none";
  const host = (request.headers.get("host") ?? "").toLowerCase();
  return URL.parse(origin)?.host === host ? "own" : "another";
}
