// SPDX-License-Identifier: Apache-2.0
//
// Entry of the Worker that writes through the page cache for the reactor (machine/write-lane.ts).
// It blocks until the reactor stops; an exception out of it ends the process.

import { onWriteLaneSeed } from "#machine/write-lane.ts";

onWriteLaneSeed();
