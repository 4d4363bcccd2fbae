// SPDX-License-Identifier: Apache-2.0
//
// Entry of the TLS relay's Worker (docs/decisions/0020). It has an event loop, unlike the
// reactor's; an exception out of it ends the process.

import { serveTls } from "#machine/tls-channel.ts";

serveTls();
