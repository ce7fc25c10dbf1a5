// Events drawn in the browser at any microsecond, with the boxes of the last read-out before it.
// The pictures are those of multiway_event_vision.rendering.views, which a test compares with them pixel by pixel.
// Names come from model folders: they are put in with textContent, never as markup.
const find = (selector) => element.querySelector(selector);
const BRIGHTER = [33, 102, 172];
const DARKER = [178, 24, 43];
const COUNTED = [31, 41, 55];
const FULL = 2; // events for the full colour of polarity, and
const FULL_COUNT = 3; // of a count
const SURFACE_WINDOWS = 6; // beyond so many windows a time surface is white
const LEAST_BETWEEN = 30; // milliseconds from picture to picture
const LARGEST_HEIGHT = 0.56; // of the page's, for the picture

let shown = null; // the id of the run on the screen
let taken = 0; // parts of it that were taken in
let events = null; // { t, x, y, p, count }
let predictions = [[], []]; // of the detector, and of the one beside it
let now = 0; // microseconds from the first event on
let follows = true; // the newest events while they come in
let playing = null;

function emptyEvents() {
  return { t: new Uint32Array(0), x: new Uint16Array(0), y: new Uint16Array(0), p: new Uint8Array(0), count: 0 };
}

function grow(array, length) {
  if (length <= array.length) return array;
  const larger = new array.constructor(Math.max(length, 2 * array.length));
  larger.set(array);
  return larger;
}

function take(part) {
  const bytes = Uint8Array.from(atob(part.events), (letter) => letter.charCodeAt(0));
  const data = new DataView(bytes.buffer);
  const length = bytes.length / 8;
  for (const name of ["t", "x", "y", "p"]) events[name] = grow(events[name], events.count + length);
  for (let i = 0; i < length; i += 1) {
    const packed = data.getUint16(8 * i + 4, true);
    events.t[events.count + i] = data.getUint32(8 * i, true);
    events.x[events.count + i] = packed & 0x7fff;
    events.p[events.count + i] = packed >> 15;
    events.y[events.count + i] = data.getUint16(8 * i + 6, true);
  }
  events.count += length;
  predictions[0].push(...part.predictions);
  predictions[1].push(...part.beside);
}

function firstNotBefore(times, count, t) {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

function windowLength() {
  return Math.round(1000 * 10 ** (2.3 * Number(find(".window").value))); // 1 to 200 ms
}

function colour(pixels, at, amount, ink) {
  for (let i = 0; i < 3; i += 1) pixels[4 * at + i] = Math.round(255 + Math.min(amount, 1) * (ink[i] - 255));
}

function paint(canvas) {
  const { width, height } = props.value;
  const length = windowLength();
  const mode = find(".mode").value;
  const end = firstNotBefore(events.t, events.count, now);
  const reach = mode === "surface" ? SURFACE_WINDOWS * length : length;
  const start = firstNotBefore(events.t, end, now - reach);
  const values = new Float64Array(width * height);
  for (let i = start; i < end; i += 1) {
    const at = events.y[i] * width + events.x[i];
    const sign = 2 * events.p[i] - 1;
    if (mode === "surface") values[at] = sign * Math.exp(-(now - events.t[i]) / length);
    else if (mode === "count") values[at] += 1 / FULL_COUNT;
    else values[at] += sign / FULL;
  }
  const image = new ImageData(width, height);
  image.data.fill(255);
  for (let at = 0; at < values.length; at += 1) {
    const ink = mode === "count" ? COUNTED : values[at] > 0 ? BRIGHTER : DARKER;
    if (values[at] !== 0) colour(image.data, at, Math.abs(values[at]), ink);
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function lastRead(list) {
  const after = firstNotBefore(list.map((read) => read[0]), list.length, now + 1);
  return after > 0 ? list[after - 1] : null;
}

function placeBoxes(pane, list) {
  const { width, height, names, colours } = props.value;
  const layer = pane.querySelector(".boxes");
  layer.replaceChildren();
  const read = lastRead(list);
  if (!read) return null;
  let newest = null;
  const least = Number(find(".score").value);
  for (const [x1, y1, x2, y2, label, score, age] of read[1]) {
    if (score < least) continue;
    const old = age + now - read[0];
    newest = newest === null ? old : Math.min(newest, old);
    const box = document.createElement("div");
    box.className = "box";
    box.classList.toggle("high", y1 / height < 0.09);
    box.classList.toggle("right", x1 / width > 0.75);
    box.style.left = (100 * x1) / width + "%";
    box.style.top = (100 * y1) / height + "%";
    box.style.width = (100 * (x2 - x1)) / width + "%";
    box.style.height = (100 * (y2 - y1)) / height + "%";
    const ink = "rgb(" + colours[label % colours.length].join(" ") + ")";
    box.style.borderColor = ink;
    const caption = document.createElement("span");
    caption.style.background = ink;
    caption.textContent = names[label] + " " + score.toFixed(2);
    box.title = names[label] + ", score " + score.toFixed(3) + ", " + (old / 1000).toFixed(1) + " ms old";
    box.append(caption);
    layer.append(box);
  }
  return newest;
}

function number(value, digits) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits);
}

function count(name, text) {
  find("[data-counter=" + name + "]").textContent = text;
}

function thousands(value) {
  return value >= 1e6 ? (value / 1e6).toFixed(2) + " M" : value >= 1e3 ? (value / 1e3).toFixed(0) + " k" : value.toFixed(0);
}

function show() {
  const value = props.value || {};
  if (!value.id) return;
  const panes = element.querySelectorAll(".pane");
  let newest = null;
  panes.forEach((pane, place) => {
    if (pane.hidden) return;
    paint(pane.querySelector("canvas"));
    const found = placeBoxes(pane, predictions[place]);
    if (place === 0) newest = found;
  });
  const length = windowLength();
  const inView = firstNotBefore(events.t, events.count, now) - firstNotBefore(events.t, events.count, now - length);
  count("rate", thousands(inView / (length / 1e6)));
  count("age", newest === null ? "–" : (newest / 1000).toFixed(1));
  find(".at").textContent = Math.round(value.start + now).toLocaleString("en-US") + " µs";
  find(".time").value = now;
  find(".window-at").textContent = (length / 1000).toFixed(length < 10000 ? 1 : 0) + " ms";
  find(".score-at").textContent = Number(find(".score").value).toFixed(2);
}

function fit() {
  const value = props.value || {};
  if (!value.id) return;
  // As wide as there is room, but no higher than the page leaves beside everything else.
  const most = Math.max(240, LARGEST_HEIGHT * window.innerHeight);
  for (const stage of element.querySelectorAll(".stage")) {
    stage.style.aspectRatio = value.width + " / " + value.height;
    stage.style.maxWidth = Math.round((most * value.width) / value.height) + "px";
  }
}

function begin(value) {
  shown = value.id;
  taken = 0;
  events = emptyEvents();
  predictions = [[], []];
  now = 0;
  follows = true;
  stop();
  element.querySelectorAll(".pane")[1].hidden = value.titles.length < 2;
  fit();
}

function draw() {
  const value = props.value || {};
  find(".summary").textContent = value.summary || "";
  find(".empty").hidden = Boolean(value.id);
  find(".body").hidden = !value.id;
  if (!value.id) return;
  if (value.id !== shown) begin(value);
  value.titles.forEach((title, place) => {
    element.querySelectorAll("figcaption")[place].textContent = title;
  });
  for (; taken < value.parts.length; taken += 1) take(value.parts[taken]);
  const last = predictions[0].length ? predictions[0][predictions[0].length - 1][0] : 0;
  find(".time").max = Math.max(last, 1);
  const counters = value.counters || {};
  count("us", number(counters.us_per_event, 2));
  const cost = counters.mflop_per_event || {};
  count("mean", number(cost.mean, 3));
  count("p99", number(cost.p99, 2));
  count("peeks", number(cost.peeks === undefined ? null : cost.peeks + cost.head, 3));
  if (follows) now = last;
  if (follows && !value.running) {
    follows = false;
    play();
  }
  show();
}

function stop() {
  if (playing !== null) cancelAnimationFrame(playing);
  playing = null;
  find(".play").textContent = "Play";
}

function play() {
  const end = Number(find(".time").max);
  follows = false;
  if (now >= end) now = 0;
  let before = null;
  let next = 0;
  find(".play").textContent = "Stop";
  const step = (moment) => {
    const speed = Number(find(".speed").value);
    if (before !== null) now = Math.min(end, now + (moment - before) * 1000 * speed);
    before = moment;
    if (moment >= next || now >= end) {
      const began = performance.now();
      show();
      // A slow browser draws less often, and stays free for clicks.
      next = moment + Math.max(LEAST_BETWEEN, 2 * (performance.now() - began));
    }
    if (now >= end) stop();
    else playing = requestAnimationFrame(step);
  };
  playing = requestAnimationFrame(step);
}

find(".play").addEventListener("click", () => (playing === null ? play() : stop()));
find(".time").addEventListener("input", (event) => {
  stop();
  follows = false;
  now = Number(event.target.value);
  show();
});
for (const name of [".mode", ".window", ".score"]) find(name).addEventListener("input", show);
window.addEventListener("resize", fit);
find(".window").value = 0.57; // 20 ms
find(".score").value = 0.3;
watch("value", draw);
draw();
