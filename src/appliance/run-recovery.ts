// SPDX-License-Identifier: Apache-2.0
//
// Composition of `cairn recovery`: takes the daemon's place on its port while that keeps failing,
// says why there and, by a file in /run/cairn, on the screen, and ends when the daemon is started
// again.
//
// Invariants
// - The code that opens the page is random, lies in memory only (files of root's below /run), and
//   stays the same for as long as this boot lasts.
// - Where the box has its state, the daemon is started again by itself (try-again.ts).
// - The port is free before the daemon is started.

import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import { ApplianceBox } from "#machine/appliance-box.ts";
import { type HttpListener, listenHttp } from "#machine/http-listener.ts";
import { createMainWorld } from "#machine/main-world.ts";
import { endWhenWrong, untilSignal } from "#machine/process-signals.ts";
import { MEDIUM_FILES, STATE_PROBLEM_FILE } from "#machine/reset-marks.ts";
import { RunFolder } from "#machine/run-folder.ts";
import { createTimers } from "#machine/timers.ts";
import { TOKEN_FILE } from "./api/convention.ts";
import { newClaimCode } from "./claim-code.ts";
import { type ReadText, defaultConfiguration } from "./configuration.ts";
import {
  RECOVERY_BODY_BYTES_MAX,
  type RecoveryOutside,
  createRecoveryApp,
} from "./recovery/recovery-app.ts";
import { RecoveryEntry } from "./recovery/recovery-entry.ts";
import type { RecoveryFacts } from "./recovery/recovery-page.tsx";
import { apiPlaceOf } from "./recovery/recovery-place.ts";
import { recoveryReason } from "./recovery/recovery-reason.ts";
import { tryAgainInMs, whenDue } from "./recovery/try-again.ts";
import { RECOVERY_FILE, RecoveryFileSchema } from "./screen/facts-poller.ts";
import { durationInWords } from "./screen/frame.ts";
import { withoutSecrets } from "./screen/log-lines.ts";
import { VERSION } from "./version.ts";

const HOST_NAME_FILE = "/proc/sys/kernel/hostname";
/** Below the run directory: the code of this boot's recoveries. */
const CODE_FILE = "recovery-code";
const SMALL_BYTES_MAX = 64 << 10;
const SHOWN_LINES = 40;
const WHOLE_LINES = 20_000;
/** For the last answer to get out before the port is given up. */
const LAST_ANSWER_MS = 500;
/** systemd stops us when the daemon starts; if it does not, we end by ourselves. */
const STOPPED_MS = 60_000;

export interface RecoveryStart {
  stateDirectory: string;
  runDirectory: string;
  /** Null: where the boot media say the API is, else where it usually is. */
  address: string | null;
  port: number | null;
  readText: ReadText;
}

/** Until the daemon is started again, or it is told to stop. */
export async function runRecovery(start: RecoveryStart): Promise<void> {
  const world = createMainWorld();
  endWhenWrong(world.log);
  const recovery = new Recovery(start, world);
  const told = untilSignal({ terminal: true });
  const listener = await recovery.begin();
  const stopWaiting = recovery.startAgainInTime();
  const why = await Promise.race([told, recovery.startAgain]);
  stopWaiting();
  if (why === "start again") await pause(LAST_ANSWER_MS);
  await listener.stop();
  recovery.end();
  if (why !== "start again") return;
  await recovery.box.startDaemon();
  await Promise.race([told, pause(STOPPED_MS)]);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => createTimers().after(ms, resolve));
}

class Recovery {
  readonly box = new ApplianceBox();
  readonly startAgain: Promise<"start again">;
  readonly #start: RecoveryStart;
  readonly #world: World;
  readonly #run: RunFolder;
  readonly #name: string;
  readonly #token: string | null;
  readonly #sinceMs: number;
  readonly #code: string;
  readonly #entry: RecoveryEntry;
  #again: () => void = () => {};

  constructor(start: RecoveryStart, world: World) {
    this.#start = start;
    this.#world = world;
    this.#run = new RunFolder(start.runDirectory);
    this.#name = this.#text(HOST_NAME_FILE) ?? "cairn";
    this.#token = this.#text(`${start.stateDirectory}/${TOKEN_FILE}`);
    // Started again within one boot, it goes on with the code that somebody may just be typing.
    const before = this.#fileBefore();
    this.#sinceMs = before?.sinceMs ?? world.clock.nowMs();
    this.#code = this.#text(this.#run.pathOf(CODE_FILE)) ?? newClaimCode(world.random);
    this.#entry = new RecoveryEntry(world, { code: this.#code, token: this.#token });
    this.startAgain = new Promise((resolve) => {
      this.#again = () => resolve("start again");
    });
  }

  async begin(): Promise<HttpListener> {
    const { reason } = await this.#facts();
    const usual = defaultConfiguration();
    const said = apiPlaceOf(this.#media(), {
      address: usual.apiAddress ?? "::",
      port: usual.ports.api,
    });
    const address = this.#start.address ?? said.address;
    const port = this.#start.port ?? said.port;
    const app = createRecoveryApp(this.#outside());
    const listener = listenHttp(
      { address, port },
      { bodyBytesMax: RECOVERY_BODY_BYTES_MAX, answer: async (request) => app.fetch(request) },
    );
    this.#run.write(CODE_FILE, `${this.#code}\n`);
    const file = { sinceMs: this.#sinceMs, reason, code: this.#code };
    this.#run.write(RECOVERY_FILE, `${JSON.stringify(file)}\n`);
    const facts = { reason, port: listener.port };
    this.#world.log.write("warn", "the daemon does not run; the recovery page serves", facts);
    return listener;
  }

  end(): void {
    this.#run.remove(RECOVERY_FILE);
  }

  /** Answers how to end the waiting for it. */
  startAgainInTime(): () => void {
    return whenDue(
      createTimers(),
      () => this.#againInMs(),
      () => {
        this.#world.log.write("warn", "the daemon is started again by itself");
        this.#again();
      },
    );
  }

  #againInMs(): number | null {
    return tryAgainInMs({
      nowMs: this.#world.clock.nowMs(),
      sinceMs: this.#sinceMs,
      usedMs: this.#entry.usedMs,
      mayPass: this.box.isAppliance && this.#stateProblem() === null,
    });
  }

  #stateProblem(): string | null {
    return this.#text(`${this.box.root}${STATE_PROBLEM_FILE}`);
  }

  #outside(): RecoveryOutside {
    const { box } = this;
    return {
      log: this.#world.log,
      name: this.#name,
      names: [this.#name, `${this.#name}.local`],
      entry: this.#entry,
      hasToken: this.#token !== null,
      facts: () => this.#facts(),
      wholeLog: async () => `${(await this.#logLines(WHOLE_LINES)).join("\n")}\n`,
      startAgain: async () => {
        box.requireAppliance();
        this.#again();
      },
      reboot: () => box.reboot(),
      useSlot: async (version) => {
        await box.chooseSlot(version, { once: false });
        await box.reboot();
      },
      reset: (level) => box.resetToFactory(level),
    };
  }

  async #facts(): Promise<RecoveryFacts> {
    const logLines = await this.#logLines(SHOWN_LINES);
    const reason = recoveryReason({
      end: await this.#orNull(() => this.box.serviceEnd()),
      logLines,
      stateProblem: this.#stateProblem(),
    });
    const againMs = this.#againInMs();
    const slots = this.box.isAppliance ? await this.#orNull(async () => this.box.slots()) : null;
    return {
      name: this.#name,
      version: VERSION,
      reason,
      forWords: durationInWords(this.#world.clock.nowMs() - this.#sinceMs),
      againWords: againMs === null ? null : durationInWords(againMs),
      logLines,
      slots: slots ?? [],
    };
  }

  async #logLines(linesMax: number): Promise<string[]> {
    const lines = (await this.#orNull(() => this.box.lastLogLines(linesMax))) ?? [];
    const secrets = this.#secrets();
    return lines.map((line) => withoutSecrets(line, secrets));
  }

  /** What is secret on this box, as far as it can be read. */
  #secrets(): string[] {
    const media = MEDIUM_FILES.map((file) => this.#text(`${this.box.root}${file}`) ?? "").join(
      "\n",
    );
    const named = media.matchAll(/"(?:joinSecret|claimCode|adminTokenHash)"\s*:\s*"([^"]+)"/g);
    const secrets = [...named].map((match) => match[1] ?? "");
    return [...secrets, this.#code, ...(this.#token === null ? [] : [this.#token])];
  }

  #media(): string[] {
    return MEDIUM_FILES.map((file) => this.#text(`${this.box.root}${file}`) ?? "");
  }

  #fileBefore() {
    const text = this.#text(this.#run.pathOf(RECOVERY_FILE));
    if (text === null) return null;
    try {
      return RecoveryFileSchema.safeParse(JSON.parse(text)).data ?? null;
    } catch {
      return null; // no JSON: as if there were none
    }
  }

  /** What cannot be read is not known; the recovery comes up all the same. */
  #text(file: string): string | null {
    try {
      return this.#start.readText(file, SMALL_BYTES_MAX)?.trim() ?? null;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#world.log.write("warn", "the recovery cannot read a file", { error });
      return null;
    }
  }

  async #orNull<T>(ask: () => Promise<T>): Promise<T | null> {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#world.log.write("warn", "the recovery cannot find something out", { error });
      return null;
    }
  }
}
