// SPDX-License-Identifier: Apache-2.0
//
// Settings of the runtime that it takes from its environment only, at its start: the executable
// replaces itself once by itself with them. The process id, its parent and its descriptors stay.

const SETTINGS: Readonly<Record<string, string>> = {
  // The allocator looks for pages to give back after every few frees, on a thread of its own: an
  // eighth of what an idle unit cost (0.15 % of a core, Bun 1.4.5). Every 5 s finds as many.
  MIMALLOC_PURGE_HOLES_MIN_INTERVAL: "5000",
  // Each thread looks every second whether its heap has grown, and collects it then. The engine
  // does so by itself when much was allocated, and idle-memory.ts now and then.
  BUN_GC_TIMER_DISABLE: "1",
  // The engine lets garbage grow with the machine's memory: to 1 GB of a unit under load on a box
  // of 24 GB. As on a box of half a GB it collects sooner, at the same cost per request.
  BUN_JSC_forceRAMSize: String(512 << 20),
};

/** Comes back only where the settings hold already, or where there is no executable of ours. */
export function takeRuntimeSettings(): void {
  const compiled = Bun.main.startsWith("/$bunfs/");
  const missing = Object.keys(SETTINGS).some((name) => process.env[name] === undefined);
  if (!compiled || !missing || process.execve === undefined) return;
  // argv[0] and argv[1] are the runtime's own; what the person typed begins after them.
  const given = [process.execPath, ...process.argv.slice(2)];
  process.execve(process.execPath, given, { ...SETTINGS, ...process.env });
}
