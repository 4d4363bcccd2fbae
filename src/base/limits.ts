// SPDX-License-Identifier: Apache-2.0
//
// Named maxima. Every length from outside is held against one of these before it sizes anything.

/** Largest payload of one host request or one peer verb, bytes (NBD's customary 32 MiB). */
export const REQUEST_BYTES_MAX = 32 << 20;
/** Largest piece in which the data path moves data between members, bytes. */
export const TRANSFER_BYTES_MAX = 1 << 20;
/** Largest body of a peer verb that is not payload (records, region lists, maps), bytes. */
export const VERB_BODY_BYTES_MAX = 256 << 10;
/** Members a slice may have (mirror-3 plus those resyncing). */
export const MEMBERS_MAX = 6;
/** In-sync members of one slice. */
export const COPIES_MAX = 3;
/**
 * Regions of one slice that may be active at once: all of an ordinary slice's (64 GiB), so that
 * random writes over it never wait for a flush. More wait for the oldest to be made inactive.
 */
export const ACTIVE_REGIONS_MAX = 16384;
/** Units in a cluster. */
export const UNITS_MAX = 256;
/** Slices of one volume (64 GiB each: 4 PiB). */
export const VOLUME_SLICES_MAX = 65536;
/** Pools of a cluster. */
export const POOLS_MAX = 64;
/** Characters in a name a person gives (unit, volume, pool). */
export const NAME_CHARACTERS_MAX = 63;
/** Host connections one unit holds at once, and of them one host. */
export const CONNECTIONS_MAX = 512;
export const CONNECTIONS_PER_HOST_MAX = 256;
/** Of one host's, those that have not chosen a volume yet. */
export const HANDSHAKES_PER_HOST_MAX = 64;

// Time limits of the contract, milliseconds of CLOCK_BOOTTIME.

/** R4: how often a head asks each in-sync member for its grant. */
export const BEACON_EVERY_MS = 250;
/** R4: how long a grant lasts, L. */
export const GRANT_MS = 2000;
/** R4: what the head takes off for clocks that drift, as a share of L (0.1 %). */
export const GRANT_DRIFT_SHARE = 0.001;
/** A head that says nothing this long is taken for lost. */
export const HEAD_SILENCE_MS = 1000;
/** R13: a member without progress this long is dropped by R2. */
export const MEMBER_STALL_MS = 5000;
/** H7: a forwarded request older than this since its last sending is refused. */
export const FORWARD_AGE_MAX_MS = 2000;
/**
 * H7: the connection of a host that cannot be reached this long is ended, before the host has given
 * it up and written elsewhere: what its network still delivers of it would come after that. The
 * host's kernel is asked every HOST_ASKED_EVERY_MS.
 */
export const HOST_UNHEARD_MS = 3000;
export const HOST_ASKED_EVERY_MS = 1000;
/** Times a forwarder sends one request again across deaths of a head. */
export const FORWARD_RESENDS_MAX = 2;
/** A region with no write in flight this long is flushed and made inactive. */
export const REGION_IDLE_MS = 1000;
/**
 * While other regions of the slice are written to, a region stays active longer, and the longer the
 * more there are: under random writes some would be idle at any moment, and flush after flush would
 * make them inactive only for the next write to make them active again.
 */
export const REGION_IDLE_BUSY_MS = 10_000;
export const REGION_IDLE_BUSY_MS_EACH = 2;

// Scrubs and disks that lie (R9): what a cluster's settings begin with.

const DAY_MS = 24 * 3600 * 1000;
/** Every block of a disk is read at least this often. */
export const SCRUB_EVERY_MS = 14 * DAY_MS;
/** What a scrub reads of a disk that is otherwise quiet, bytes per second. */
export const SCRUB_BYTES_PER_SECOND_MAX = 50 << 20;
/** A disk on which so many places were found wrong within DISK_ERRORS_WITHIN_MS is replaced. */
export const DISK_ERRORS_MAX = 50;
export const DISK_ERRORS_WITHIN_MS = DAY_MS;

/** Files of the control station's decisions in a state directory, and bytes of each. */
export const DECISION_FILES_MAX = 3;
export const DECISION_FILE_BYTES_MAX = 8 << 20;

/** Between the years 2020 and 2100, ms since 1970: outside a clock is wrong, or mistyped. */
export const WALL_MS_MIN = 1_577_836_800_000;
export const WALL_MS_MAX = 4_102_444_800_000;

/** Reactors of one unit (docs/decisions/0060). */
export const REACTORS_MAX = 4;
