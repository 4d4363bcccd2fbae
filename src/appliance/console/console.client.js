// SPDX-License-Identifier: Apache-2.0
//
// Client code of the pages, loaded as a module; every page works without it. It puts what is marked
// data-live anew when the event stream tells something, and every LOOK_MS while the page is seen;
// and it makes the copy buttons work. What somebody is about to use (focus, selected text) is left
// as it is.

const LOOK_MS = 10_000;
const SOON_MS = 300;
const LOOK = { "x-cairn-look": "again" };

const stateLine = document.getElementById("live-state");
const liveParts = () => [...document.querySelectorAll("[data-live]")];
let waiting = null;
let looking = false;

function isInUse(part) {
  const selection = document.getSelection();
  const isSelected = selection !== null && !selection.isCollapsed;
  return (
    part.contains(document.activeElement) || (isSelected && selection.containsNode(part, true))
  );
}

function say(words) {
  if (stateLine !== null && stateLine.textContent !== words) stateLine.textContent = words;
}

async function look() {
  if (looking || document.hidden) return;
  looking = true;
  try {
    const answer = await fetch(location.href, { headers: LOOK });
    if (answer.redirected) {
      say("You are signed out. Load the page again to sign in.");
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of liveParts()) {
      const other = fresh.getElementById(part.id);
      if (other === null || isInUse(part) || other.innerHTML === part.innerHTML) continue;
      part.replaceWith(document.adoptNode(other));
    }
    say("");
  } catch (error) {
    say("This unit does not answer at the moment; what stands here may be old.");
    console.debug(error);
  } finally {
    looking = false;
  }
}

function lookSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(look, SOON_MS);
}

async function newestEvent() {
  const answer = await fetch("/api/v1/events?limit=1");
  if (!answer.ok) return null;
  const { events } = await answer.json();
  return events.at(-1)?.number ?? 0;
}

async function listen() {
  const since = await newestEvent();
  if (since === null) return;
  const source = new EventSource(`/api/v1/events/stream?since=${since}`);
  for (const severity of ["info", "warning", "alarm"]) source.addEventListener(severity, lookSoon);
  addEventListener("pagehide", () => source.close());
}

function offerCopying() {
  if (navigator.clipboard === undefined) return; // browsers give it to secure pages alone
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy)?.textContent ?? "";
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    });
  }
}

offerCopying();
if (liveParts().length > 0) {
  setInterval(look, LOOK_MS);
  document.addEventListener("visibilitychange", lookSoon);
  listen().catch((error) => console.debug(error));
}
