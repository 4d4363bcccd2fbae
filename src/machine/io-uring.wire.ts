// SPDX-License-Identifier: Apache-2.0
//
// The structures and constants of io_uring and of the socket calls it carries out, as the kernel's
// headers print them: include/uapi/linux/io_uring.h of Linux 6.12 (what the machine's older header
// lacks is marked), asm-generic/socket.h, linux/tcp.h, linux/socket.h, bits/types of glibc 2.36.
// Little-endian 64-bit machines only (x86-64, arm64). No logic.

import { bytes, reserved, struct, u16, u32, u64, u8 } from "#base/wire.ts";

/** System call numbers; the same on x86-64 and arm64 (asm-generic/unistd.h). */
export const SYS_IO_URING_SETUP = 425;
export const SYS_IO_URING_ENTER = 426;
export const SYS_IO_URING_REGISTER = 427;

export const SYS_PIDFD_OPEN = 434;
export const SYS_PROCESS_MADVISE = 440; // 5.10

/** struct iovec. */
export const IO_VECTOR = struct("iovec", 16, "little", {
  address: u64(0),
  lengthBytes: u64(8),
});

/** struct io_uring_params, with io_sqring_offsets and io_cqring_offsets in it. */
export const RING_PARAMS = struct("io_uring_params", 120, "little", {
  sqEntries: u32(0),
  cqEntries: u32(4),
  flags: u32(8), // SETUP
  sqThreadCpu: u32(12),
  sqThreadIdle: u32(16),
  features: u32(20), // FEATURE
  wqFd: u32(24),
  unused: reserved(28, 12),
  sqHead: u32(40), // the following are offsets in the mapping, bytes
  sqTail: u32(44),
  sqMask: u32(48),
  sqRingEntries: u32(52),
  sqFlags: u32(56),
  sqDropped: u32(60),
  sqArray: u32(64),
  sqUnused: reserved(68, 12),
  cqHead: u32(80),
  cqTail: u32(84),
  cqMask: u32(88),
  cqRingEntries: u32(92),
  cqOverflow: u32(96),
  cqCqes: u32(100),
  cqFlags: u32(104),
  cqUnused: reserved(108, 12),
});

/** IORING_SETUP_*: flags of io_uring_setup. */
export const SETUP = {
  cqSize: 1 << 3,
  clamp: 1 << 4,
  submitAll: 1 << 7, // 5.18
  taskrunFlag: 1 << 9, // 5.19
  singleIssuer: 1 << 12, // 6.0
  deferTaskrun: 1 << 13, // 6.1
  noSqArray: 1 << 16, // 6.6
} as const;

/** IORING_SQ_*: what the kernel says in the submission ring's flags, without being asked. */
export const SQ_FLAG = { taskrun: 1 << 2 } as const;

/** IORING_FEAT_*: what the kernel says it can. */
export const FEATURE = {
  singleMmap: 1 << 0,
  noDrop: 1 << 1,
  submitStable: 1 << 2,
  extArg: 1 << 8,
  minimumWait: 1 << 15, // 6.12
} as const;

/** IORING_ENTER_*: flags of io_uring_enter. */
export const ENTER = {
  getEvents: 1 << 0,
  extArg: 1 << 3,
  registeredRing: 1 << 4,
} as const;

/** Operations of io_uring_register. */
export const REGISTER_IOWQ_MAX_WORKERS = 19;
export const REGISTER_RING_FDS = 20;
export const REGISTER_RING_FDS_UNDO = 21;

/** mmap offsets of the rings and of the submission entries. */
export const MMAP_SQ_RING = 0;
export const MMAP_SQES = 0x10000000;

/** struct io_uring_rsrc_update: for REGISTER_RING_FDS. */
export const RSRC_UPDATE = struct("io_uring_rsrc_update", 16, "little", {
  offset: u32(0), // 0xffffffff: the kernel picks
  unused: reserved(4, 4),
  fd: u32(8), // low word of `data`
  fdHigh: reserved(12, 4),
});

/** struct io_uring_getevents_arg: io_uring_enter's timeout. */
export const GETEVENTS_ARG = struct("io_uring_getevents_arg", 24, "little", {
  sigmask: u64(0),
  sigmaskSize: u32(8),
  minWaitMicroseconds: u32(12), // 6.12; zero before
  timespec: u64(16), // address
});

/** struct __kernel_timespec. */
export const TIMESPEC = struct("__kernel_timespec", 16, "little", {
  seconds: u64(0),
  nanoseconds: u64(8),
});

/** struct io_uring_sqe as 16 words of 32 bits (the data path writes it by index). */
export const SQE_WORDS = 16;
export const SQE = {
  /** opcode, flags << 8, ioprio << 16 */
  opcode: 0,
  fd: 1,
  offsetLow: 2,
  offsetHigh: 3,
  addressLow: 4,
  addressHigh: 5,
  length: 6,
  /** rw_flags, fsync_flags, msg_flags, accept_flags, poll32_events, cancel_flags ... */
  opFlags: 7,
  slot: 8, // user_data, low
  slotHigh: 9,
} as const;

/** struct io_uring_cqe as 4 words of 32 bits. */
export const CQE_WORDS = 4;
export const CQE = { slot: 0, slotHigh: 1, result: 2, flags: 3 } as const;

/** IORING_CQE_F_*. */
export const CQE_FLAG = { more: 1 << 1, socketNonEmpty: 1 << 2 } as const;

/** enum io_uring_op. */
export const RING_OP = {
  nop: 0,
  fsync: 3,
  pollAdd: 6,
  syncFileRange: 8,
  sendmsg: 9,
  accept: 13,
  asyncCancel: 14,
  connect: 16,
  read: 22,
  write: 23,
  fadvise: 24,
  send: 26,
  recv: 27,
} as const;

/** sqe.ioprio of accept and of send and receive. */
export const ACCEPT_MULTISHOT = 1 << 0; // 5.19
export const RECEIVE_POLL_FIRST = 1 << 0; // 5.19
/** sqe.cancel_flags (5.19). */
export const CANCEL_ALL = 1 << 0;
export const CANCEL_FD = 1 << 1;

export const FSYNC_DATASYNC = 1;
/** sync_file_range: wait before, write, wait after. */
export const SYNC_FILE_RANGE_ALL = 7;
export const FADVISE_DONTNEED = 4;
/** linux/fs.h: this one write is on stable media when it completes. */
export const RWF_DSYNC = 2;
/** linux/fs.h: only what is in memory, without a wait. */
export const RWF_NOWAIT = 8;
/** poll(2): error, hang-up, the peer will send no more. */
export const POLL_GONE = 0x0008 | 0x0010 | 0x2000;

/** struct msghdr (64-bit) and struct iovec. */
export const MSGHDR = struct("msghdr", 56, "little", {
  name: u64(0),
  nameLength: u32(8),
  pad: reserved(12, 4),
  iov: u64(16), // address of the first iovec
  iovCount: u64(24),
  control: u64(32),
  controlLength: u64(40),
  flags: u32(48),
  padEnd: reserved(52, 4),
});
export const IOVEC_BYTES = 16;
export const IOVEC = { addressLow: 0, addressHigh: 4, lengthLow: 8, lengthHigh: 12 } as const;

/** struct sockaddr_in, sockaddr_in6, sockaddr_un. Ports and addresses in network order. */
export const SOCKADDR_BYTES_MAX = 128;
export const SOCKADDR_IN = struct("sockaddr_in", 16, "little", {
  family: u16(0),
  portHigh: u8(2),
  portLow: u8(3),
  address: bytes(4, 4),
  zero: reserved(8, 8),
});
export const SOCKADDR_IN6 = struct("sockaddr_in6", 28, "little", {
  family: u16(0),
  portHigh: u8(2),
  portLow: u8(3),
  flowInfo: u32(4),
  address: bytes(8, 16),
  scope: u32(24), // index of the interface, for link-local addresses
});
export const SOCKADDR_UN_BYTES = 110;
export const SOCKADDR_UN_PATH = 2;
export const SOCKADDR_UN_PATH_BYTES = 108;

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_CLOEXEC = 0x80000;
export const SHUT_RDWR = 2;
export const MSG_DONTWAIT = 0x40;
export const MSG_WAITALL = 0x100;
export const MSG_NOSIGNAL = 0x4000;

export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_SNDBUF = 7;
export const SO_SNDBUFFORCE = 32;
export const SO_KEEPALIVE = 9;
/** struct linger: on, seconds (two u32). On with 0 seconds: unsent bytes are dropped at the end. */
export const SO_LINGER = 13;
export const LINGER_BYTES = 8;
export const IPPROTO_TCP = 6;
export const TCP_NODELAY = 1;
export const TCP_KEEPIDLE = 4;
export const TCP_KEEPINTVL = 5;
export const TCP_KEEPCNT = 6;
export const TCP_CONGESTION = 13;
export const TCP_USER_TIMEOUT = 18;
export const IPPROTO_IPV6 = 41;
export const IPV6_V6ONLY = 26;

/** struct statx, the fields direct I/O needs (6.1). */
export const STATX_DIOALIGN = 0x2000;
export const STATX_BYTES = 256;
export const STATX_DIO_MEM_ALIGN = 152;
export const STATX_DIO_OFFSET_ALIGN = 156;
export const AT_EMPTY_PATH = 0x1000;

/**
 * struct rusage of one thread (getrusage(2)): ru_nvcsw, how often it slept, in words of 4 bytes.
 */
export const RUSAGE_THREAD = 1;
export const RUSAGE_BYTES = 144;
export const RUSAGE_SLEPT = 128 / 4;

/** linux/fs.h ioctls of block devices. */
export const BLKSSZGET = 0x1268;
export const BLKGETSIZE64 = 0x80081272;
