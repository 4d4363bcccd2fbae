// SPDX-License-Identifier: Apache-2.0
//
// Which paths are pages. Whoever asks for one needs no token: the console asks for a session.

const FIRST_WORDS: readonly string[] = [
  "",
  "account",
  "arrivals",
  "assets",
  "ca.pem",
  "claim",
  "disks",
  "events",
  "hosts",
  "login",
  "logout",
  "pools",
  "recovery",
  "settings",
  "setup",
  "units",
  "volumes",
];

export function isConsolePath(path: string): boolean {
  return FIRST_WORDS.includes(path.split("/")[1] ?? "-");
}
