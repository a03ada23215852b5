// The conversation of this tab, kept over a reload as long as the tab is open.

import { base64, blob } from "./drawing.js";
import { forTab } from "./store.js";

const NAME = "conversation";

// Pictures that are more than a browser keeps for a tab are left out.
export async function keep(messages) {
  const whole = await Promise.all(
    messages.map(async (message) => ({ ...message, pictures: await Promise.all((message.pictures ?? []).map(base64)) })),
  );
  if (forTab.set(NAME, JSON.stringify(whole))) return;
  forTab.set(NAME, JSON.stringify(whole.map((message) => ({ ...message, pictures: [] }))));
}

export function recall() {
  try {
    const messages = JSON.parse(forTab.get(NAME) ?? "[]");
    return messages.map((message) => ({ ...message, pictures: message.pictures.map(blob) }));
  } catch {
    return [];
  }
}

export const forget = () => forTab.remove(NAME);
