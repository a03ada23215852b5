// Inline Markdown: emphasis, code, links. One pass with a stack, so that no input makes it slow.

import { el } from "./dom.js";

const ESCAPED = /[!-/:-@[-`{-~]/;
const BARE = /https?:\/\/[^\s<>"'`]+/y;
const ANGLED = /<((?:https?:\/\/|mailto:)[^\s<>]+)>/y;
const PLAIN = /[^\\`*_~[!<h\n]+/y;
const FARTHEST = 2000; // characters between the brackets of a link
const DEEPEST = 3;

// Nodes for a line's text.
export function inline(text, depth = 0) {
  const pieces = [];
  const unclosed = new Set(); // lengths of runs of backticks that nothing closes
  let at = 0;
  while (at < text.length) {
    const [piece, next] = read(text, at, depth, unclosed);
    pieces.push(piece);
    at = next;
  }
  return paired(pieces);
}

// The piece that begins here, and the position of the next.
function read(text, at, depth, unclosed) {
  const letter = text[at];
  const rest = (pattern) => {
    pattern.lastIndex = at;
    return pattern.exec(text);
  };
  const plain = rest(PLAIN);
  if (plain) return [plain[0], at + plain[0].length];
  if (letter === "\\" && ESCAPED.test(text[at + 1] ?? "")) return [text[at + 1], at + 2];
  if (letter === "\\" && text[at + 1] === "\n") return [el("br"), at + 2];
  if (letter === "\n") return [text.slice(Math.max(0, at - 2), at) === "  " ? el("br") : "\n", at + 1];
  if (letter === "`") return code(text, at, unclosed);
  if (letter === "<") {
    const found = rest(ANGLED);
    return found ? [link(found[1], [found[1]]), at + found[0].length] : ["<", at + 1];
  }
  if (letter === "h") {
    const found = /[\p{L}\p{N}]/u.test(text[at - 1] ?? "") ? null : rest(BARE);
    if (!found) return ["h", at + 1];
    const address = trimmed(found[0]);
    return [link(address, [address]), at + address.length];
  }
  if (letter === "[" || (letter === "!" && text[at + 1] === "[")) {
    return (depth < DEEPEST && linked(text, at, depth)) || [letter, at + 1];
  }
  if (letter === "!") return ["!", at + 1];
  return mark(text, at);
}

function code(text, at, unclosed) {
  const run = /`+/y;
  run.lastIndex = at;
  const fence = run.exec(text)[0];
  const inside = at + fence.length;
  if (unclosed.has(fence.length)) return [fence, inside];
  for (let from = inside; ; ) {
    const end = text.indexOf(fence, from);
    if (end < 0) break;
    let after = end + fence.length;
    while (text[after] === "`") after += 1;
    if (after === end + fence.length) {
      const said = text.slice(inside, end).replaceAll("\n", " ");
      const padded = said.length > 2 && said.startsWith(" ") && said.endsWith(" ") && said.trim();
      return [el("code", {}, padded ? said.slice(1, -1) : said), after];
    }
    from = after;
  }
  unclosed.add(fence.length);
  return [fence, inside];
}

// [words](address "title"). Of a picture only the words are shown: nothing is fetched on behalf of a model.
function linked(text, at, depth) {
  const open = text[at] === "!" ? at + 1 : at;
  const close = matching(text, open);
  if (close < 0 || text[close + 1] !== "(") return null;
  const target = /\(\s*<?((?:[^\s()<>]|\([^\s()<>]*\))*)>?(?:\s+(?:"[^"\n]*"|'[^'\n]*'))?\s*\)/y;
  target.lastIndex = close + 1;
  const found = target.exec(text);
  if (!found) return null;
  const words = inline(text.slice(open + 1, close), depth + 1);
  return [link(found[1], words.length ? words : [found[1]]), target.lastIndex];
}

function matching(text, open) {
  let depth = 0;
  const last = Math.min(text.length, open + FARTHEST);
  for (let at = open; at < last; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === "[") depth += 1;
    else if (text[at] === "]" && (depth -= 1) === 0) return at;
  }
  return -1;
}

// Links to web pages and mail addresses; of all others only the words.
function link(address, words) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return el("span", {}, words);
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return el("span", {}, words);
  return el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, words);
}

// Punctuation at the end belongs to the sentence, not to the address.
function trimmed(address) {
  let end = address.length;
  while (end && ".,;:!?*_~".includes(address[end - 1])) end -= 1;
  if (address[end - 1] === ")" && !address.slice(0, end).includes("(")) end -= 1;
  return address.slice(0, end);
}

// A run of marks, and whether it can open or close emphasis, which depends on its neighbours.
function mark(text, at) {
  const letter = text[at];
  let end = at;
  while (text[end] === letter) end += 1;
  if (letter === "~" && end - at !== 2) return [text.slice(at, end), end];
  const before = kind(text[at - 1]);
  const after = kind(text[end]);
  const left = after !== "space" && (after === "word" || before !== "word");
  const right = before !== "space" && (before === "word" || after !== "word");
  const inWord = letter === "_";
  const opens = left && (!inWord || !right || before === "mark");
  const closes = right && (!inWord || !left || after === "mark");
  return [{ letter, count: end - at, opens, closes }, end];
}

function kind(letter) {
  if (letter === undefined || /\s/.test(letter)) return "space";
  return /[\p{P}\p{S}]/u.test(letter) ? "mark" : "word";
}

// Matching marks become an element around what is between them; the others stay text.
function paired(pieces) {
  const done = [];
  const openers = []; // indexes in `done` of marks that may still be closed
  for (const piece of pieces) {
    if (typeof piece === "string" || piece instanceof Node) {
      done.push(piece);
      continue;
    }
    if (piece.closes) close(done, openers, piece);
    if (!piece.count) continue;
    if (piece.opens) openers.push(done.length);
    done.push(piece);
  }
  return done.map((piece) => (typeof piece === "string" || piece instanceof Node ? piece : piece.letter.repeat(piece.count)));
}

function close(done, openers, piece) {
  while (piece.count) {
    const found = openers.findLastIndex((place) => done[place].letter === piece.letter);
    if (found < 0) return;
    const place = openers[found];
    const opener = done[place];
    const taken = Math.min(2, opener.count, piece.count);
    openers.length = found + 1;
    const inside = done.splice(place + 1).map(letters);
    done.push(el(element(piece.letter, taken), {}, inside));
    opener.count -= taken;
    piece.count -= taken;
    if (!opener.count) {
      done.splice(place, 1);
      openers.pop();
    }
  }
}

const element = (letter, count) => (letter === "~" ? "s" : count === 2 ? "strong" : "em");
const letters = (piece) => (typeof piece === "string" || piece instanceof Node ? piece : piece.letter.repeat(piece.count));
