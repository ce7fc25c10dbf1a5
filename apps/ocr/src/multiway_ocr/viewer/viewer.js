// The page with its line boxes, and its text beside it: choosing a line in one shows it in the other.
// Everything that was read is put in with textContent and attributes, never as markup.
const find = (selector) => element.querySelector(selector);
const SVG = "http://www.w3.org/2000/svg";
const UNSURE = 0.7;
let shownImage = null;
let boxes = [];
let rows = [];
let chosen = -1;

function isUnsure(line) {
  return line.confidence < UNSURE || line.flags.some((flag) => flag !== "text-layer");
}

function detail(line) {
  const parts = [];
  if (isUnsure(line)) parts.push(Math.round(100 * line.confidence) + " %");
  return parts.concat(line.flags).join(", ");
}

function reveal(pane, item) {
  const outer = pane.getBoundingClientRect();
  const inner = item.getBoundingClientRect();
  if (inner.top < outer.top + 8 || inner.bottom > outer.bottom - 8) {
    pane.scrollBy({ top: inner.top - outer.top - outer.height / 2, behavior: "smooth" });
  }
}

function choose(index) {
  for (const item of element.querySelectorAll(".chosen")) item.classList.remove("chosen");
  chosen = index;
  if (index < 0 || index >= rows.length) return;
  rows[index].classList.add("chosen");
  reveal(find(".text"), rows[index]);
  if (boxes[index]) {
    boxes[index].classList.add("chosen");
    reveal(find(".page"), boxes[index]);
  }
}

function hover(index, on) {
  if (rows[index]) rows[index].classList.toggle("hover", on);
  if (boxes[index]) boxes[index].classList.toggle("hover", on);
}

function connect(item, index) {
  item.addEventListener("click", () => choose(index === chosen ? -1 : index));
  item.addEventListener("mouseenter", () => hover(index, true));
  item.addEventListener("mouseleave", () => hover(index, false));
}

function addLine(line, index) {
  const [x0, y0, x1, y1] = line.box;
  const box = document.createElementNS(SVG, "rect");
  const size = { x: x0, y: y0, width: Math.max(x1 - x0, 1), height: Math.max(y1 - y0, 1) };
  for (const name in size) box.setAttribute(name, size[name]);
  const title = document.createElementNS(SVG, "title");
  title.textContent = line.text + " (" + Math.round(100 * line.confidence) + " %)";
  box.append(title);
  const row = document.createElement("div");
  row.className = "line";
  row.setAttribute("role", "option");
  row.textContent = line.text;
  if (detail(line)) {
    const note = document.createElement("span");
    note.className = "detail";
    note.textContent = detail(line);
    row.append(note);
  }
  for (const item of [box, row]) {
    item.classList.toggle("unsure", isUnsure(line));
    connect(item, index);
  }
  find(".sheet svg").append(box);
  find(".text").append(row);
  boxes.push(box);
  rows.push(row);
}

function draw() {
  const value = props.value || {};
  const lines = value.lines || [];
  find(".summary").textContent = value.summary || "";
  find(".empty").hidden = Boolean(value.image);
  find(".sheet").hidden = !value.image;
  const isSamePage = value.image === shownImage;
  if (!isSamePage) {
    shownImage = value.image;
    if (value.image) find(".sheet img").src = value.image;
    find(".sheet svg").setAttribute("viewBox", "0 0 " + value.width + " " + value.height);
    find(".page").scrollTop = 0;
  }
  // While lines stream in, the ones that stand already stay as they are, chosen or not.
  const isGrowing = isSamePage && value.reading && rows.length > 0 && lines.length >= rows.length;
  if (!isGrowing) {
    find(".sheet svg").replaceChildren();
    find(".text").replaceChildren();
    boxes = [];
    rows = [];
    chosen = -1;
  }
  for (let index = rows.length; index < lines.length; index += 1) addLine(lines[index], index);
  if (value.note && lines.length === 0) {
    const note = document.createElement("div");
    note.className = "line note";
    note.textContent = value.note;
    find(".text").append(note);
  }
  if (value.reading) find(".text").scrollTop = find(".text").scrollHeight;
}

find(".boxes").addEventListener("change", (event) => {
  find(".sheet").classList.toggle("bare", !event.target.checked);
});
find(".copy").addEventListener("click", async (event) => {
  const text = ((props.value || {}).lines || []).map((line) => line.text).join("\n");
  const button = event.currentTarget;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here";
  }
  setTimeout(() => { button.textContent = "Copy text"; }, 1500);
});
find(".text").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || rows.length === 0) return;
  event.preventDefault();
  choose(Math.min(Math.max(chosen + step, 0), rows.length - 1));
});
watch("value", draw);
draw();
