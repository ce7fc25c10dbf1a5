// The list of recommendations, why the chosen one is there, and the picture of the way to it.
// Titles and texts are put in with textContent; the picture is SVG that the server wrote and escaped.
const find = (selector) => element.querySelector(selector);
let rows = [];
let chosen = 0;

function make(tag, css, text) {
  const node = document.createElement(tag);
  if (css) node.className = css;
  if (text !== undefined) node.textContent = text;
  return node;
}

function signed(value) {
  return (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(2);
}

function plain(value) {
  return (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(2);
}

function stack(parts, largest) {
  const bar = make("span", "stack");
  for (const part of parts) {
    const piece = make("i");
    piece.style.width = (100 * Math.abs(part.value)) / largest + "%";
    piece.style.background = part.colour;
    if (part.value < 0) piece.style.opacity = "0.35";
    bar.append(piece);
  }
  bar.title = parts.map((part) => part.name + " " + signed(part.value)).join(", ");
  return bar;
}

function move(item) {
  if (item.before === undefined || item.before === null) return make("span", "move", item.isNew ? "new" : "");
  const by = item.before - item.rank;
  if (by > 0) return make("span", "move up", "\u25b2 " + by);
  if (by < 0) return make("span", "move down", "\u25bc " + -by);
  return make("span", "move", "=");
}

function addRow(item, index, largest) {
  const row = make("div", "item");
  row.setAttribute("role", "option");
  row.append(make("span", "rank", item.rank));
  const middle = make("div");
  middle.append(make("div", "title", item.title));
  const meta = make("div", "meta");
  const dot = make("span", "dot");
  dot.style.background = item.colour;
  meta.append(dot, make("span", "", item.category + " \u00b7 " + item.id + (item.age ? " \u00b7 " + item.age : "")));
  middle.append(meta);
  row.append(middle, stack(item.parts, largest), make("span", "score", plain(item.score)), move(item));
  row.addEventListener("click", () => choose(index));
  find(".list").append(row);
  rows.push(row);
}

function choose(index) {
  const items = (props.value || {}).items || [];
  chosen = index;
  rows.forEach((row, number) => {
    row.classList.toggle("chosen", number === index);
    row.setAttribute("aria-selected", number === index ? "true" : "false");
  });
  const item = items[index];
  find(".why h2").textContent = item ? item.title : "";
  find(".why .text").textContent = item ? item.text : "";
  const body = find(".checks tbody");
  body.replaceChildren();
  for (const check of item ? item.checks : []) {
    const line = make("tr");
    line.append(make("td", "", check.what));
    line.append(make("td", check.delta < -0.005 ? "fall" : check.delta > 0.005 ? "rise" : "", signed(check.delta)));
    body.append(line);
  }
  const picture = find(".picture");
  picture.replaceChildren();
  if (item && item.picture) {
    const parsed = new DOMParser().parseFromString(item.picture, "image/svg+xml");
    if (parsed.documentElement.nodeName === "svg") {
      const drawing = document.importNode(parsed.documentElement, true);
      drawing.style.minWidth = 0.8 * drawing.getAttribute("width") + "px"; // a long chain scrolls; its titles stay legible
      picture.append(drawing);
    }
  }
}

function draw() {
  const value = props.value || {};
  const items = value.items || [];
  find(".badge").hidden = !value.badge;
  find(".badge").textContent = value.badge || "";
  find(".badge").title = value.help || "";
  find(".summary").textContent = value.summary || "";
  find(".list").replaceChildren();
  rows = [];
  const sizes = items.map((item) => item.parts.reduce((sum, part) => sum + Math.abs(part.value), 0));
  const largest = Math.max(...sizes, 1e-6);
  items.forEach((item, index) => addRow(item, index, largest));
  if (items.length === 0) find(".list").append(make("div", "note", value.note || ""));
  const legend = find(".legend");
  legend.replaceChildren();
  for (const part of value.legend || []) {
    const key = make("span", "key");
    const dot = make("span", "dot");
    dot.style.background = part.colour;
    key.append(dot, make("span", "", part.name));
    legend.append(key);
  }
  choose(items.length ? 0 : -1);
}

find(".list").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || rows.length === 0) return;
  event.preventDefault();
  choose(Math.min(Math.max(chosen + step, 0), rows.length - 1));
  rows[chosen].scrollIntoView({ block: "nearest" });
});
watch("value", draw);
draw();
