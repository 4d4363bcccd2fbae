// SPDX-License-Identifier: Apache-2.0
//
// For tests: the Worker that serves a write lane.

import { onWriteLaneSeed } from "./write-lane.ts";

onWriteLaneSeed();
