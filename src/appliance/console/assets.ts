// SPDX-License-Identifier: Apache-2.0
//
// What the pages load besides themselves, out of the executable: one style sheet, a little client
// code, one picture. The same for everybody, signed in or not.

import type { ConsoleApp } from "./console.tsx";
import client from "./console.client.js" with { type: "text" };
import style from "./console.css" with { type: "text" };

/** Seconds; short, so that a page after an update has its own style. */
const KEPT_SECONDS = 60;

/** A cairn: three stones. */
const PICTURE =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">' +
  '<g fill="#2f7d78"><ellipse cx="16" cy="25" rx="13" ry="5"/>' +
  '<ellipse cx="16" cy="15.5" rx="9.5" ry="4.2"/><ellipse cx="16" cy="7.5" rx="6" ry="3.4"/>' +
  "</g></svg>";

const ASSETS: Record<string, readonly [type: string, text: string]> = {
  "/assets/console.css": ["text/css; charset=utf-8", style],
  "/assets/console.js": ["text/javascript; charset=utf-8", client],
  "/assets/cairn.svg": ["image/svg+xml", PICTURE],
};

export function addAssets(app: ConsoleApp): void {
  for (const [path, [type, text]] of Object.entries(ASSETS)) {
    app.get(path, (call) =>
      call.body(text, 200, {
        "content-type": type,
        "cache-control": `public, max-age=${KEPT_SECONDS}`,
      }),
    );
  }
}
