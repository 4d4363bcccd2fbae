// SPDX-License-Identifier: Apache-2.0
//
// The settings of the cluster in words: how a person writes each and is shown it. Names are those
// of the REST API; durations and sizes are said as people say them.

import type { SettingsView } from "#appliance/backend.ts";
import { durationInWords, parseDuration, parseSize, sizeInWords } from "./words.ts";

type Name = keyof SettingsView;

export interface SettingWords {
  name: Name;
  sentence: string;
  /** Undefined: it makes no sense. */
  parse(word: string): SettingsView[Name] | undefined;
  show(value: SettingsView[Name]): string;
}

function ofNumber(parse: (word: string) => number | null, show: (value: number) => string) {
  return {
    parse: (word: string) => parse(word) ?? undefined,
    show: (value: SettingsView[Name]) => (typeof value === "number" ? show(value) : ""),
  };
}
const duration = ofNumber(
  (word) => (word === "0" ? 0 : parseDuration(word)),
  (ms) => (ms === 0 ? "0" : durationInWords(ms)),
);
const whole = ofNumber((word) => (/^\d{1,15}$/.test(word) ? Number(word) : null), String);

const orNone = {
  parse: (word: string) => (word === "none" ? null : word),
  show: (value: SettingsView[Name]) => (value === null ? "none" : String(value)),
};

export const SETTINGS: readonly SettingWords[] = [
  {
    name: "clusterName",
    sentence: "what the cluster is called: letters, digits, dot, dash and underscore",
    parse: (word) => word,
    show: String,
  },
  {
    name: "reprotectAfterMs",
    sentence: "how long a copy may be missing before another disk takes its place",
    ...duration,
  },
  {
    name: "protectWithinMs",
    sentence: "how long after a loss all copies are to be there again; 0: no such promise",
    ...duration,
  },
  {
    name: "scrubEveryMs",
    sentence: "every block of every disk is read at least this often; 0: only when asked",
    ...duration,
  },
  {
    name: "scrubBytesPerSecondMax",
    sentence: "the most that a scrub reads of a disk, per second",
    ...ofNumber(parseSize, sizeInWords),
  },
  {
    name: "diskErrorsMax",
    sentence: "a disk that was wrong in so many places within a day is retired; 0: never",
    ...whole,
  },
  {
    name: "groupAddress",
    sentence: "an address that a live unit always answers, such as 10.0.0.50; none: there is none",
    ...orNone,
  },
  {
    name: "httpsOnly",
    sentence: "whether pages and API are answered over TLS alone (https, port 7443): yes or no",
    parse: (word) => ({ yes: true, no: false })[word],
    show: (value) => (value === true ? "yes" : "no"),
  },
  {
    name: "syslogTarget",
    sentence: "where logs and events are sent by syslog, such as 10.0.0.5:514; none: nowhere",
    ...orNone,
  },
  {
    name: "timeServers",
    sentence:
      "who tells boxes the time (NTP), such as 10.0.0.1,ntp.example.org; none: whom DHCP names, " +
      "else Debian's servers",
    ...orNone,
  },
];

/** What one of them is to be, or why it cannot. */
export function settingOf(name: string, word: string): { [K in Name]?: unknown } | string {
  const setting = SETTINGS.find((one) => one.name === name);
  if (setting === undefined) {
    const names = SETTINGS.map((one) => one.name).join(", ");
    return `there is no setting ${JSON.stringify(name)}; there are: ${names}`;
  }
  const value = setting.parse(word);
  if (value === undefined) {
    return `${name} is not ${JSON.stringify(word)}: such as 14d, 50M or a number`;
  }
  return { [setting.name]: value };
}
