// SPDX-License-Identifier: Apache-2.0
//
// A volume's page, the part that makes it larger: the size that it is to have, and a preview of
// where what is added would lie.

/** @jsxImportSource hono/jsx */

import { sizeInWords } from "#appliance/api/words.ts";
import type { VolumeView } from "#appliance/backend.ts";
import { Field, Form } from "./frame.tsx";
import { volumePath } from "./health.ts";
import type { Reading } from "./reading.ts";
import type { Session } from "./sessions.ts";
import { Preview } from "./slice-figure.tsx";

/** What was typed, and as the dry run places it. */
export interface Growth {
  size: string;
  preview: VolumeView | null;
}

export function GrowSection(options: {
  volume: VolumeView;
  seen: Reading;
  session: Session;
  growth: Growth | null;
}) {
  const { volume, seen, session, growth } = options;
  const { sizeBytes, growingToBytes } = volume;
  const now =
    growingToBytes === null
      ? `It has ${sizeInWords(sizeBytes)}`
      : `It has ${sizeInWords(sizeBytes)} and is growing to ${sizeInWords(growingToBytes)}`;
  const preview = growth?.preview ?? null;
  return (
    <section aria-labelledby="grow">
      <h2 id="grow">Size</h2>
      {preview === null ? null : <Preview preview={preview} seen={seen} hasBytes={sizeBytes} />}
      <Form session={session} action={`${volumePath(volume)}/grow`} class="form">
        <Field
          id="size"
          label="New size"
          value={growth?.size ?? ""}
          required
          autocomplete="off"
          hint={`Such as 2T, of the whole volume. ${now}; it is never made smaller.`}
        />
        <p class="hint">
          Hosts see it as they attach anew; then their file system is grown. Those that are attached
          go on as they are.
        </p>
        <p class="actions">
          <button type="submit" name="intent" value="grow">
            Grow volume
          </button>
          <button type="submit" name="intent" value="preview" class="second">
            Preview
          </button>
        </p>
      </Form>
    </section>
  );
}
