// Calls to the gateway that serves this page, with an API key if it needs one. Errors are sentences.

import { forget, keyed, obtain } from "./key.js";
import { sentence } from "./format.js";

const BASE = new URL(".", document.baseURI);

export class Refused extends Error {
  constructor(message, status = 0) {
    super(sentence(message));
    this.status = status;
  }
}

export const stopped = (error) => error.name === "AbortError";

const AWAY = "The gateway is not responding. If it was stopped, start it again with “diptych serve”";
const CUT = "The connection was lost before the answer was complete";

// The response to a request. With `ask: false`, used in the background, the dialog for the key is not opened.
async function send(path, { body, method = body === undefined ? "GET" : "POST", signal, id, ask = true } = {}) {
  for (;;) {
    const headers = keyed();
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (id) headers["X-Request-Id"] = id;
    const text = body === undefined ? undefined : JSON.stringify(body);
    let answer;
    try {
      answer = await fetch(new URL(path, BASE), { method, headers, body: text, signal, cache: "no-store" });
    } catch (error) {
      throw stopped(error) ? error : new Refused(AWAY);
    }
    if (answer.ok) return answer;
    if (answer.status !== 401) throw await refusal(answer);
    forget(headers.Authorization);
    if (!ask || !(await obtain(Boolean(headers.Authorization)))) {
      throw new Refused("This gateway needs an API key", 401);
    }
  }
}

async function refusal(answer) {
  let said;
  try {
    said = (await answer.json()).error;
  } catch {
    said = null;
  }
  if (typeof said !== "string") said = `The gateway responded with status ${answer.status}`;
  const wait = Number(answer.headers.get("Retry-After"));
  const later = answer.status === 503 && wait ? ` Try again in ${wait} s.` : "";
  return new Refused(sentence(said) + later, answer.status);
}

export async function call(path, options) {
  const answer = await send(path, options);
  try {
    return await answer.json();
  } catch (error) {
    throw stopped(error) ? error : new Refused(CUT);
  }
}

// A file, as a blob.
export async function fetched(path, options) {
  const answer = await send(path, options);
  return answer.blob();
}

// The lines of an answer that does not end by itself.
export async function* stream(path, options) {
  for await (const line of lines(await send(path, options))) yield JSON.parse(line);
}

// The events of a completion, up to the one with `done`. Aborting the signal cancels it.
export async function* events(path, options) {
  const answer = await send(path, options);
  for await (const line of lines(answer)) {
    const event = JSON.parse(line);
    if (event.error) throw new Refused(event.error, 500);
    yield event;
    if (event.done) return;
  }
  throw new Refused(CUT);
}

// A line may hold a picture of several megabytes, so no chunk is searched twice.
async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let parts = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const pieces = value.split("\n");
      parts.push(pieces.shift());
      for (const piece of pieces) {
        const line = parts.join("");
        parts = [piece];
        if (line) yield line;
      }
    }
  } catch (error) {
    throw stopped(error) ? error : new Refused(CUT);
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
