// The picture with what was found, its words and its table: hovering or choosing an entity in one shows it in all.
// A box is drawn with the mouse anywhere, by touch while the pen is on; what it snaps to is drawn beside it.
// Everything that was read is put in with textContent and attributes, never as markup.
const find = (selector) => element.querySelector(selector);
let shownImage = null;
let chosen = -1;
let drag = null;

const value = () => props.value || {};
const percent = (share) => (100 * share).toFixed(3) + "%";

function make(name, className, text) {
  const item = document.createElement(name);
  item.className = className;
  if (text !== undefined) item.textContent = text;
  return item;
}

// left, top, right, bottom in pixels of the picture
function place(item, [left, top, right, bottom]) {
  const { width, height } = value();
  item.style.left = percent(left / width);
  item.style.top = percent(top / height);
  item.style.width = percent((right - left) / width);
  item.style.height = percent((bottom - top) / height);
}

function cellRectangle(first, last) {
  const { width, height, grid } = value();
  const across = width / grid;
  const down = height / grid;
  return [
    (first % grid) * across,
    Math.floor(first / grid) * down,
    ((last % grid) + 1) * across,
    (Math.floor(last / grid) + 1) * down,
  ];
}

// The rule of the location grid: corners to cells, a right or lower edge on a line belongs to the cell before it.
function snap([left, top, right, bottom]) {
  const { width, height, grid } = value();
  const start = (share) => Math.min(Math.floor(share * grid), grid - 1);
  const end = (share, from) => Math.max(Math.ceil(share * grid - 1), from);
  const column = start(left / width);
  const row = start(top / height);
  return [row * grid + column, end(bottom / height, row) * grid + end(right / width, column)];
}

function parts(index) {
  return element.querySelectorAll('[data-entity="' + index + '"]');
}

function hover(index, on) {
  for (const item of parts(index)) item.classList.toggle("hover", on);
  find(".sheet").classList.toggle("hovering", on && chosen < 0);
}

function choose(index) {
  for (const item of element.querySelectorAll(".chosen")) item.classList.remove("chosen");
  chosen = index === chosen ? -1 : index;
  find(".sheet").classList.toggle("isolating", chosen >= 0);
  find(".sheet").classList.remove("hovering");
  find(".all").hidden = chosen < 0;
  for (const item of parts(chosen)) item.classList.add("chosen");
}

// A row of the table, whose parts are its cells.
function addCells(row, role, ...cells) {
  row.setAttribute("role", "row");
  for (const cell of cells) cell.setAttribute("role", role);
  row.append(...cells);
  find(".table").append(row);
}

function connect(item, index, paint) {
  item.dataset.entity = index;
  item.style.setProperty("--paint", paint);
  item.addEventListener("mouseenter", () => hover(index, true));
  item.addEventListener("mouseleave", () => hover(index, false));
}

function meter(share) {
  const bar = make("div", "meter");
  const fill = make("i", "");
  fill.style.width = percent(Math.max(0, Math.min(1, share)));
  bar.append(fill, make("b", "", share.toFixed(2)));
  return bar;
}

function addBox(entity, index, box) {
  const item = make("div", "box");
  place(item, box.xyxy);
  item.classList.toggle("low", box.xyxy[1] < 0.07 * value().height);
  item.classList.toggle("right", box.xyxy[0] > 0.7 * value().width);
  item.append(make("span", "label", entity.phrase.trim() + " " + Math.round(100 * box.confidence) + " %"));
  item.title = entity.phrase.trim();
  const cells = make("div", "cells");
  place(cells, cellRectangle(box.cells[0], box.cells[1]));
  const corners = box.cells.map((cell) => {
    const corner = make("div", "corner");
    place(corner, cellRectangle(cell, cell));
    return corner;
  });
  for (const part of [item, cells, ...corners]) connect(part, index, entity.colour);
  find(".boxes").append(cells, ...corners, item);
}

function addRow(entity, index, box, isFirst) {
  const row = make("div", "row place");
  const name = make("div", "name");
  name.append(make("span", "dot"), make("span", "", isFirst ? entity.phrase.trim() : "″"));
  const where = make("div", "where");
  if (box) {
    where.append(make("div", "", box.xyxy.map(Math.round).join(", ")));
    where.append(make("div", "", "cells " + box.cells.join(", ")));
  } else {
    row.classList.add("absent");
    where.append(make("div", "", entity.waiting ? "looking ..." : "not present"));
  }
  const confidence = box && !entity.waiting ? meter(box.confidence) : make("div", "small", "–");
  const present = isFirst && !entity.waiting ? meter(entity.present) : make("div", "small");
  addCells(row, "cell", name, where, confidence, present);
  connect(row, index, entity.colour);
  row.addEventListener("click", () => choose(index));
}

function area([left, top, right, bottom]) {
  return (right - left) * (bottom - top);
}

function drawPlaces(entities) {
  find(".boxes").replaceChildren();
  find(".table").replaceChildren();
  const placed = entities.flatMap((entity, index) => entity.boxes.map((box) => ({ entity, index, box })));
  placed.sort((one, other) => area(other.box.xyxy) - area(one.box.xyxy)); // small ones on top
  for (const { entity, index, box } of placed) addBox(entity, index, box);
  if (entities.length === 0) return;
  addCells(
    make("div", "row head"),
    "columnheader",
    make("div", "", "phrase"),
    make("div", "head-where", "place in pixels"),
    make("div", "", "confidence"),
    make("div", "", "present")
  );
  entities.forEach((entity, index) => {
    if (entity.boxes.length === 0) addRow(entity, index, null, true);
    entity.boxes.forEach((box, number) => addRow(entity, index, box, number === 0));
  });
}

function drawText(segments, entities, note) {
  const text = find(".text");
  text.replaceChildren();
  for (const segment of segments) {
    if (segment.entity === null) {
      text.append(document.createTextNode(segment.text));
      continue;
    }
    const entity = entities[segment.entity];
    const item = make("button", "entity", segment.text);
    item.type = "button";
    item.classList.toggle("absent", entity.boxes.length === 0);
    connect(item, segment.entity, entity.colour);
    item.addEventListener("click", () => choose(segment.entity));
    text.append(item);
  }
  if (note) text.append(make("span", "note", note));
}

function draw() {
  const now = value();
  const entities = now.entities || [];
  find(".summary").textContent = now.summary || "";
  find(".empty").hidden = Boolean(now.image);
  find(".sheet").hidden = !now.image;
  if (now.image !== shownImage) {
    shownImage = now.image;
    showDrawn(null);
    if (now.image) find(".sheet img").src = now.image;
  }
  if (now.task && now.task !== "describe") showDrawn(null);
  find(".sheet").style.setProperty("--ratio", (now.width || 1) / (now.height || 1));
  find(".all").hidden = true;
  find(".sheet").classList.remove("isolating", "hovering");
  chosen = -1;
  drawPlaces(entities);
  const boxes = entities.flatMap((entity) => entity.boxes.map((box) => box.xyxy)).filter(isSnapped);
  if (boxes.length > 0) showHint(boxes, "A place is");
  drawText(now.segments || [], entities, now.note);
  find(".raw").hidden = !now.tagged;
  find(".raw pre").textContent = now.tagged || "";
}

// Whether a box was made of grid cells: its sides lie on their middles or edges. The detector's lie anywhere.
function isSnapped(box) {
  const { width, height, grid } = value();
  const off = (share) => Math.abs(2 * grid * share - Math.round(2 * grid * share));
  return box.every((side, index) => off(side / (index % 2 ? height : width)) < 0.02);
}

// Below two cells a side a box and what it snaps to overlap by half or less.
function showHint(boxes, subject) {
  const { width, height, grid } = value();
  const isTiny = ([left, top, right, bottom]) =>
    right - left < (2 * width) / grid || bottom - top < (2 * height) / grid;
  find(".hint").hidden = !boxes.some(isTiny);
  find(".hint").textContent =
    subject + " smaller than two grid cells: the model cannot tell the place any finer than the dashed rectangle.";
}

function showDrawn(box) {
  find(".drawn").hidden = find(".snapped").hidden = !box;
  showHint(box ? [box] : [], "The box is");
  if (!box) return;
  place(find(".drawn"), box);
  place(find(".snapped"), cellRectangle(...snap(box)));
}

function point(event) {
  const { width, height } = value();
  const sheet = find(".sheet").getBoundingClientRect();
  const share = (at, start, size) => Math.min(Math.max((at - start) / size, 0), 1);
  return [
    share(event.clientX, sheet.left, sheet.width) * width,
    share(event.clientY, sheet.top, sheet.height) * height,
  ];
}

function boxBetween([x0, y0], [x1, y1]) {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
}

function isPen() {
  return find(".pen").getAttribute("aria-pressed") === "true";
}

function setPen(on) {
  find(".pen").setAttribute("aria-pressed", String(on));
  find(".sheet").classList.toggle("pen", on);
}

find(".sheet").addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || (event.pointerType === "touch" && !isPen())) return;
  drag = { start: point(event), x: event.clientX, y: event.clientY, moved: false, target: event.target };
  find(".sheet").setPointerCapture(event.pointerId);
});
find(".sheet").addEventListener("pointermove", (event) => {
  if (!drag) return;
  drag.moved = drag.moved || Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4;
  if (drag.moved) showDrawn(boxBetween(drag.start, point(event)));
});
find(".sheet").addEventListener("pointerup", (event) => {
  if (!drag) return;
  const { start, moved, target } = drag;
  drag = null;
  if (!moved) {
    const box = target.closest(".box");
    choose(box ? Number(box.dataset.entity) : chosen);
    return;
  }
  const box = boxBetween(start, point(event));
  if (area(box) <= 0) {
    showDrawn(null);
    return;
  }
  setPen(false);
  trigger("draw", { box: box.map((number) => Math.round(number * 10) / 10) });
});
find(".sheet").addEventListener("pointercancel", () => { drag = null; showDrawn(null); });
find(".sheet").addEventListener("click", (event) => {
  const box = event.target.closest(".box"); // a touch without the pen; the mouse is handled above
  if (event.pointerType === "touch" && !isPen() && box) choose(Number(box.dataset.entity));
});
find(".pen").addEventListener("click", () => setPen(!isPen()));
find(".all").addEventListener("click", () => choose(chosen));
element.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chosen >= 0) choose(chosen);
});
find(".show-labels").addEventListener("change", (event) => {
  find(".sheet").classList.toggle("bare", !event.target.checked);
});
find(".show-cells").addEventListener("change", (event) => {
  find(".sheet").classList.toggle("grid", event.target.checked);
});
watch("value", draw);
draw();
