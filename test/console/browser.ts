// SPDX-License-Identifier: Apache-2.0
//
// Debian's Chromium by playwright-core: started once with an empty profile, and what every page is
// put through: axe-core's rules in both themes, no error of its own, and a picture to look at.

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type BrowserContext, chromium, errors, type Page } from "playwright-core";
import { program } from "#test/conform/programs.ts";

const ROOT = path.resolve(import.meta.dir, "..", "..");
const AXE = readFileSync(path.join(ROOT, "node_modules", "axe-core", "axe.min.js"), "utf8");
/** For a person to look at; not part of the tree. */
export const PICTURE_MS = 15_000;
const PICTURES = path.join(ROOT, ".cache", "console-pictures");
const WIDE = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
const WAIT_MS = 30_000;
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export class Browser implements AsyncDisposable {
  readonly #profile: string;
  readonly #context: BrowserContext;
  /** What pages complained of in the console, or threw. */
  readonly complaints: string[] = [];

  private constructor(profile: string, context: BrowserContext) {
    this.#profile = profile;
    this.#context = context;
    context.setDefaultTimeout(WAIT_MS);
  }

  static async open(options: { javaScriptEnabled?: boolean } = {}): Promise<Browser> {
    const profile = mkdtempSync(path.join(tmpdir(), "cairn-browser-"));
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: program("chromium"),
      args: FLAGS,
      viewport: WIDE,
      ...options,
    });
    return new Browser(profile, context);
  }

  async page(): Promise<Page> {
    const page = await this.#context.newPage();
    page.on("console", (message) => {
      if (message.type() === "error") this.complaints.push(`${page.url()}: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.complaints.push(`${page.url()}: ${error.message}`));
    return page;
  }

  async cookies() {
    return this.#context.cookies();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#context.close();
    rmSync(this.#profile, { recursive: true, force: true });
  }
}

interface Violation {
  id: string;
  nodes: { html: string; failureSummary: string }[];
}

/**
 * Looks at a page in both themes, wide and on a phone; answers what is wrong with it. The pictures
 * are `NAME-THEME-SIZE.png`.
 */
export async function examine(page: Page, name: string): Promise<string[]> {
  mkdirSync(PICTURES, { recursive: true });
  const found: string[] = [];
  for (const theme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    for (const [size, viewport] of Object.entries({ wide: WIDE, phone: PHONE })) {
      await page.setViewportSize(viewport);
      const where = `${name} ${theme} ${size}`;
      found.push(...(await axeViolations(page)).map((one) => `${where}: ${one}`));
      const tooWide = await page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth",
      );
      if (tooWide !== 0) found.push(`${where}: ${tooWide} pixels wider than the window`);
      const file = path.join(PICTURES, `${name}-${theme}-${size}.png`);
      await takePicture(page, file);
    }
  }
  await page.setViewportSize(WIDE);
  return found;
}

/** Chromium now and then never answers one; what it shows is looked at by a person, later. */
async function takePicture(page: Page, file: string): Promise<void> {
  const once = () => page.screenshot({ path: file, fullPage: true, timeout: PICTURE_MS });
  try {
    await once();
  } catch (error) {
    if (!(error instanceof errors.TimeoutError)) throw error;
    await once();
  }
}

async function axeViolations(page: Page): Promise<string[]> {
  // Through the debugger, not as an element of the page: the page's own policy stays in force.
  await page.evaluate(AXE);
  const { violations } = (await page.evaluate("axe.run()")) as { violations: Violation[] };
  return violations.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.html.slice(0, 120)}: ${node.failureSummary}`),
  );
}
