// Numbers and messages as people read them.

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

// Servers say "width: 9000 is out of range; …": here it stands alone.
export function sentence(text) {
  const said = String(text).trim();
  if (!said) return "Something went wrong, and nobody says what.";
  const begun = /^[a-z]+[ ,:;]/.test(said) ? said[0].toUpperCase() + said.slice(1) : said;
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

// The part of a name that says most: owners and paths are left away.
export function short(name) {
  return name.split("/").filter(Boolean).pop() ?? name;
}

// crypto.randomUUID is for secure pages only; a gateway in the house is none.
export function randomId() {
  const numbers = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(numbers, (number) => number.toString(16).padStart(2, "0")).join("");
}

export function randomSeed() {
  return 1 + (crypto.getRandomValues(new Uint32Array(1))[0] % (2 ** 32 - 1));
}
