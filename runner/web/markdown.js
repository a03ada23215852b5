// Markdown to elements: blocks here, inline markup in inline.js. A growing text is updated in place.

import { codeBlock } from "./code.js";
import { el } from "./dom.js";
import { inline } from "./inline.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:([ \t]+)(.*)|)$/;
const TABLE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const DEEPEST = 8;

// The blocks in order, each with its lines.
export function blocks(lines) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [kind, end] = next(lines, at);
    found.push({ kind, lines: lines.slice(at, end) });
    at = end;
  }
  return found;
}

function next(lines, at) {
  const line = lines[at];
  if (FENCE.test(line)) return ["code", fenced(lines, at)];
  if (HEADING.test(line)) return ["heading", at + 1];
  if (RULE.test(line)) return ["rule", at + 1];
  if (QUOTE.test(line)) return ["quote", quoted(lines, at)];
  if (ITEM.test(line)) return ["list", listed(lines, at)];
  if (isTable(lines, at)) return ["table", until(lines, at, (one) => !one.includes("|"))];
  return ["paragraph", until(lines, at, (one, place) => begins(one) || isTable(lines, place))];
}

const begins = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || /^ {0,3}(?:[-*+]|1[.)])[ \t]+\S/.test(line);
const isTable = (lines, at) => lines[at].includes("|") && lines[at + 1]?.includes("|") && TABLE.test(lines[at + 1]);

function until(lines, at, ends) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !ends(lines[end], end)) end += 1;
  return end;
}

function fenced(lines, at) {
  const mark = FENCE.exec(lines[at])[1];
  const closes = new RegExp(`^ {0,3}\\${mark[0]}{${mark.length},}[ \\t]*$`);
  for (let end = at + 1; end < lines.length; end += 1) if (closes.test(lines[end])) return end + 1;
  return lines.length;
}

function quoted(lines, at) {
  return until(lines, at, (line) => !QUOTE.test(line) && begins(line));
}

// Items and what is indented below them; also blank lines, if the list continues after them.
function listed(lines, at) {
  const ordered = /\d/.test(ITEM.exec(lines[at])[2]);
  let end = at + 1;
  for (let place = end; place < lines.length; place += 1) {
    const line = lines[place];
    if (!line.trim()) continue;
    const item = ITEM.exec(line);
    const goesOn = /^(?: {2,}|\t)/.test(line) || (item && !RULE.test(line) && /\d/.test(item[2]) === ordered);
    const lazy = place === end && lines[place - 1].trim() && !begins(line) && !item;
    if (!goesOn && !lazy) break;
    end = place + 1;
  }
  return end;
}

// An element for a block.
export function shown(block, depth = 0) {
  if (depth > DEEPEST) return el("p", {}, block.lines.join("\n"));
  return SHOWN[block.kind](block.lines, depth);
}

const inside = (lines, depth) => blocks(lines).map((block) => shown(block, depth + 1));

const SHOWN = {
  code(lines) {
    const [, mark, about] = FENCE.exec(lines[0]);
    const last = lines.at(-1).trim();
    const closed = lines.length > 1 && last.length >= mark.length && [...last].every((letter) => letter === mark[0]);
    return codeBlock(lines.slice(1, closed ? -1 : undefined).join("\n"), about.trim().split(/\s/)[0]);
  },
  heading([line]) {
    const [, marks, text = ""] = HEADING.exec(line);
    // The page has its own h1, and each answer is below an h2.
    return el(`h${Math.min(6, marks.length + 2)}`, {}, inline(text.trimEnd().replace(/(?:^|[ \t])#+$/, "").trim()));
  },
  rule: () => el("hr"),
  quote: (lines, depth) => el("blockquote", {}, inside(lines.map((line) => line.replace(QUOTE, "")), depth)),
  list,
  table,
  paragraph: (lines) => el("p", {}, inline(lines.map((line) => line.trimStart()).join("\n"))),
};

function list(lines, depth) {
  const [, , mark] = ITEM.exec(lines[0]);
  const ordered = /\d/.test(mark);
  const items = [];
  let margin = 0;
  for (const line of lines) {
    const item = ITEM.exec(line);
    const own = !items.length || (item && item[1].length < margin && /\d/.test(item[2]) === ordered && !RULE.test(line));
    if (own) {
      margin = item[1].length + item[2].length + Math.min(4, item[3]?.length ?? 1);
      items.push([item[4] ?? ""]);
    } else {
      items.at(-1).push(line.replace(new RegExp(`^(?: {0,${margin}}|\\t)`), ""));
    }
  }
  const loose = items.some((own) => own.some((line, place) => !line.trim() && own.slice(place + 1).some((after) => after.trim())));
  const entries = items.map((own) => entry(own, loose, depth));
  return ordered ? el("ol", { start: Number.parseInt(mark, 10) }, entries) : el("ul", {}, entries);
}

function entry(lines, loose, depth) {
  const nodes = inside(lines, depth);
  const first = nodes[0];
  if (loose || first?.tagName !== "P") return el("li", {}, nodes);
  return el("li", {}, [...first.childNodes], nodes.slice(1));
}

function table(lines) {
  const sides = cells(lines[1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "middle" : "right") : null));
  const row = (tag) => (line) =>
    el("tr", {}, cells(line).slice(0, sides.length).map((cell, place) => el(tag, { class: sides[place], scope: tag === "th" && "col" }, inline(cell))));
  const head = el("thead", {}, row("th")(lines[0]));
  const body = el("tbody", {}, lines.slice(2).map(row("td")));
  return el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Table" }, el("table", {}, head, body));
}

function cells(line) {
  const bare = line.trim().replace(/^\|/, "").replace(/([^\\]|^)\|$/, "$1");
  return bare.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

// A growing text: unchanged blocks keep their elements, and with them the selection.
export class Markdown {
  #shown = [];

  constructor(root) {
    this.root = root;
  }

  set text(text) {
    const found = blocks(text.replaceAll("\r\n", "\n").split("\n"));
    found.forEach((block, place) => {
      const source = block.kind + block.lines.join("\n");
      const old = this.#shown[place];
      if (old?.source === source) return;
      const node = shown(block);
      if (old) old.node.replaceWith(node);
      else this.root.append(node);
      this.#shown[place] = { source, node };
    });
    for (const { node } of this.#shown.splice(found.length)) node.remove();
  }
}
