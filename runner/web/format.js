// Numbers and messages for display.

export function bytes(count) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${unit && count < 10 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

export function span(seconds) {
  if (seconds < 1) return "a moment";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

// A server's message ("width: 9000 is out of range; …") as a sentence.
export function sentence(text) {
  const said = String(text).trim();
  if (!said) return "Something went wrong.";
  const begun = /^[a-z]+[ ,:;]/.test(said) ? said[0].toUpperCase() + said.slice(1) : said;
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

// The last part of a name, without owner or path.
export function short(name) {
  return name.split("/").filter(Boolean).pop() ?? name;
}

// crypto.randomUUID needs a secure page, which plain HTTP in a local network is not.
export function randomId() {
  const numbers = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(numbers, (number) => number.toString(16).padStart(2, "0")).join("");
}

export function randomSeed() {
  return 1 + (crypto.getRandomValues(new Uint32Array(1))[0] % (2 ** 32 - 1));
}
