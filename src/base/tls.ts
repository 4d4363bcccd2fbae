// SPDX-License-Identifier: Apache-2.0
//
// How a volume may be reached: word of the volume's record, of the portals and of the console.

/** `off`: only without TLS. `optional`: either way. `required`: only over TLS. */
export const TLS_RULES = ["off", "optional", "required"] as const;
export type TlsRule = (typeof TLS_RULES)[number];
/** Of volumes that say nothing else. */
export const TLS_RULE_DEFAULT: TlsRule = "optional";
