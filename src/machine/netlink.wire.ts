// SPDX-License-Identifier: Apache-2.0
//
// Generic netlink, as far as the nbd family needs it: linux/netlink.h, linux/genetlink.h and
// linux/nbd-netlink.h (Linux 6.1; docs.kernel.org/userspace-api/netlink). All in the machine's own
// byte order, which is little-endian on what we run on.

import { struct, u16, u32, u8 } from "#base/wire.ts";

/** nlmsghdr and genlmsghdr; attributes follow. */
export const MESSAGE = struct("generic netlink message", 20, "little", {
  lengthBytes: u32(0), // of the whole message
  type: u16(4), // of the family
  flags: u16(6),
  sequence: u32(8),
  port: u32(12),
  command: u8(16),
  version: u8(17),
  reserved: u16(18),
});
/** nlattr; its payload follows, padded to 4 bytes. */
export const ATTRIBUTE = struct("netlink attribute", 4, "little", {
  lengthBytes: u16(0), // with this head
  type: u16(2),
});
export const ATTRIBUTE_TYPE_MASK = 0x3fff; // NLA_TYPE_MASK
export const NESTED = 0x8000; // NLA_F_NESTED

export const AF_NETLINK = 16;
export const NETLINK_GENERIC = 16;
export const SOL_NETLINK = 270;
export const NETLINK_ADD_MEMBERSHIP = 1;
export const MessageFlag = { REQUEST: 1, ACK: 4 } as const;
/** An answer of this type carries an errno, negative, or 0, at ERROR_AT. */
export const MESSAGE_ERROR = 2;
export const ERROR_AT = 16;

/** genetlink.h: the family that knows the others. */
export const CONTROL = {
  FAMILY: 0x10,
  GET_FAMILY: 3,
  ATTR_FAMILY_ID: 1, // u16
  ATTR_FAMILY_NAME: 2,
  ATTR_GROUPS: 7, // a list of nested ones
  ATTR_GROUP_NAME: 1,
  ATTR_GROUP_ID: 2, // u32
} as const;

/** nbd-netlink.h */
export const NBD_FAMILY = "nbd";
export const NBD_GROUP = "nbd_mc_group";
export const NBD_VERSION = 1;
export const NbdCommand = {
  CONNECT: 1,
  DISCONNECT: 2,
  RECONFIGURE: 3,
  LINK_DEAD: 4,
} as const;
export const NbdAttribute = {
  INDEX: 1, // u32
  SIZE_BYTES: 2, // u64
  BLOCK_SIZE_BYTES: 3, // u64
  TIMEOUT: 4, // u64, seconds
  SERVER_FLAGS: 5, // u64
  CLIENT_FLAGS: 6, // u64
  SOCKETS: 7, // a list of nested ones
  DEAD_CONN_TIMEOUT: 8, // u64, seconds
  BACKEND_IDENTIFIER: 10, // text
} as const;
export const NbdSocketAttribute = { ITEM: 1, FD: 1 } as const;
