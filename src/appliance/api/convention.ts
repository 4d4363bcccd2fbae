// SPDX-License-Identifier: Apache-2.0
//
// What both sides of the API must know: names and limits, without the code of either. The command
// line reads them here, so that it does not load the server to ask a question.

/** The socket and the token in a unit's state directory. */
export const SOCKET_FILE = "api.sock";
export const TOKEN_FILE = "api-token";
/** The one thing that anybody on the network may ask for, with the claim code. */
export const CLAIM_PATH = "/api/v1/claim";
/** What hosts themselves may ask, each with its own token; they may ask nothing else. */
export const HOST_PATH = "/api/v1/host";
/** The owner's password for the pages. */
export const PASSWORD_PATH = "/api/v1/password";
/** Age of what an answer knows of the control state, ms; 0 while the control store answers. */
export const STALE_HEADER = "x-cairn-stale-ms";
/** Largest body of a request, bytes. */
export const BODY_BYTES_MAX = 64 << 10;
