// The recording's outline with a lane a speaker, and the words below: choosing a segment in either plays it.
// Everything that was heard is put in with textContent and attributes, never as markup.
const find = (selector) => element.querySelector(selector);
const COLOURS = ["#2563eb", "#c2410c", "#15803d", "#7e22ce", "#be185d", "#0e7490", "#a16207", "#475569"];
const NOBODY = "#94a3b8";
const PIXELS_A_SECOND = 5; // of long recordings, which then scroll
const audio = find("audio");
let shownAudio = null;
let parts = [];
let rows = [];
let lanes = new Map();
let chosen = -1;
let playUntil = null;
let earlier = null; // texts of the run before on the same recording

const value = () => props.value || {};
const colour = (speaker) => (speaker === null ? NOBODY : COLOURS[speaker % COLOURS.length]);
const who = (speaker) => (speaker === null ? "Nobody" : "Speaker " + speaker);
const place = (seconds) => (100 * seconds) / Math.max(value().duration || 0, 0.01) + "%";

function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - 60 * minutes).toFixed(1).padStart(4, "0");
  return minutes < 60
    ? minutes + ":" + rest
    : Math.floor(minutes / 60) + ":" + String(minutes % 60).padStart(2, "0") + ":" + rest;
}

function lane(speaker) {
  if (!lanes.has(speaker)) {
    const row = document.createElement("div");
    row.className = "lane";
    row.dataset.order = speaker === null ? 1e6 : speaker;
    const name = document.createElement("span");
    name.className = "who";
    name.textContent = who(speaker);
    row.append(name);
    const after = [...find(".lanes").children].find((other) => Number(other.dataset.order) > Number(row.dataset.order));
    find(".lanes").insertBefore(row, after || null);
    lanes.set(speaker, row);
  }
  return lanes.get(speaker);
}

function choose(index, play) {
  for (const item of element.querySelectorAll(".chosen")) item.classList.remove("chosen");
  chosen = index;
  const segment = (value().segments || [])[index];
  if (!segment) return;
  parts[index].classList.add("chosen");
  rows[index].classList.add("chosen");
  const pane = find(".text").getBoundingClientRect();
  const row = rows[index].getBoundingClientRect();
  if (row.top < pane.top || row.bottom > pane.bottom) {
    find(".text").scrollBy({ top: row.top - pane.top - pane.height / 3, behavior: "smooth" });
  }
  if (play) start(segment.start, segment.end);
}

function start(from, until) {
  playUntil = until;
  audio.currentTime = from;
  audio.play().catch(() => {}); // a browser may refuse to play before the page was touched
}

function addSegment(segment, index) {
  const part = document.createElement("div");
  part.className = "part";
  part.style.left = place(segment.start);
  part.style.width = place(segment.end - segment.start);
  part.style.background = colour(segment.speaker);
  part.title = segment.text;
  lane(segment.speaker).append(part);
  const band = document.createElement("div");
  band.className = "band";
  band.style.left = part.style.left;
  band.style.width = part.style.width;
  band.style.background = part.style.background;
  find(".wave").append(band);
  const row = document.createElement("div");
  row.className = "line";
  row.setAttribute("role", "option");
  const time = document.createElement("span");
  time.className = "time";
  time.textContent = clock(segment.start);
  const chip = document.createElement("span");
  chip.className = "chip";
  chip.style.background = colour(segment.speaker);
  chip.textContent = who(segment.speaker);
  const words = document.createElement("span");
  words.className = "words" + (segment.speaker === null ? " tag" : "");
  words.textContent = segment.text;
  row.append(time, chip, words);
  if (earlier && !earlier.has(segment.text)) {
    row.classList.add("fresh");
    row.title = "Not in the transcript before";
  }
  for (const item of [part, row]) {
    item.addEventListener("click", (event) => {
      event.stopPropagation();
      choose(index, true);
    });
  }
  find(".text").append(row);
  parts.push(part);
  rows.push(row);
}

function outline(peaks) {
  const step = 1200 / Math.max(peaks.length, 1);
  const top = Math.max(0.05, ...peaks);
  const up = peaks.map((peak, i) => (i * step).toFixed(1) + " " + (50 - (46 * peak) / top - 0.6).toFixed(1));
  const down = peaks.map((peak, i) => (i * step).toFixed(1) + " " + (50 + (46 * peak) / top + 0.6).toFixed(1)).reverse();
  return peaks.length ? "M" + up.concat(down).join("L") + "Z" : "";
}

function clear() {
  find(".lanes").replaceChildren();
  find(".text").replaceChildren();
  for (const band of element.querySelectorAll(".band")) band.remove();
  parts = [];
  rows = [];
  lanes = new Map();
  chosen = -1;
}

function draw() {
  const { audio: source = null, segments = [], peaks = [], duration = 0, working, summary, note, problems } = value();
  find(".summary").textContent = summary || "";
  find(".empty").hidden = Boolean(source);
  find(".sheet").hidden = !source;
  find(".play").disabled = !source;
  const isSame = source === shownAudio;
  if (!isSame) {
    shownAudio = source;
    earlier = null;
    audio.pause();
    if (source) audio.src = source;
    else audio.removeAttribute("src");
    find(".wave path").setAttribute("d", outline(peaks));
    find(".sheet").style.width = Math.round(duration * PIXELS_A_SECOND) + "px";
    follow();
  }
  // While segments stream in, the ones that stand already stay as they are, chosen or not.
  const known = rows.map((row) => row.querySelector(".words").textContent);
  const isGrowing = isSame && segments.length >= rows.length && known.every((text, i) => text === segments[i].text)
    && rows.every((row, i) => row.querySelector(".chip").textContent === who(segments[i].speaker));
  if (!isGrowing) {
    if (isSame && known.length && working) earlier = new Set(known);
    clear();
  }
  for (const item of element.querySelectorAll(".note")) item.remove();
  for (let index = rows.length; index < segments.length; index += 1) addSegment(segments[index], index);
  if (note && segments.length === 0) {
    const line = document.createElement("div");
    line.className = "note";
    line.textContent = note;
    find(".text").append(line);
  }
  find(".problems").hidden = !(problems || []).length;
  find(".problems").replaceChildren(
    ...(problems || []).map((problem) => {
      const item = document.createElement("li");
      item.textContent = problem;
      return item;
    }),
  );
  if (working && rows.length) find(".text").scrollTop = find(".text").scrollHeight;
}

function follow() {
  const now = audio.currentTime || 0;
  find(".head").style.left = place(now);
  find(".clock").textContent = clock(now);
  find(".play").innerHTML = audio.paused ? "&#9654;" : "&#10074;&#10074;";
  find(".play").setAttribute("aria-label", audio.paused ? "Play" : "Pause");
  if (playUntil !== null && now >= playUntil) {
    audio.pause();
    playUntil = null;
  }
  if (!audio.paused && playUntil === null) {
    const index = (value().segments || []).findIndex((s) => s.start <= now && now < s.end);
    if (index >= 0 && index !== chosen) choose(index, false);
  }
}

function tick() {
  follow();
  if (!audio.paused) requestAnimationFrame(tick);
}

audio.addEventListener("play", tick);
for (const name of ["pause", "seeked", "ended", "timeupdate"]) audio.addEventListener(name, follow);
find(".play").addEventListener("click", () => {
  playUntil = null;
  if (audio.paused) audio.play().catch(() => {});
  else audio.pause();
});
find(".sheet").addEventListener("click", (event) => {
  const box = find(".sheet").getBoundingClientRect();
  playUntil = null;
  audio.currentTime = (value().duration * (event.clientX - box.left)) / box.width;
});
find(".copy").addEventListener("click", async (event) => {
  const lines = (value().segments || []).map((s) => (s.speaker === null ? "" : who(s.speaker) + ": ") + s.text);
  const button = event.currentTarget;
  try {
    await navigator.clipboard.writeText(lines.join("\n"));
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here";
  }
  setTimeout(() => { button.textContent = "Copy text"; }, 1500);
});
find(".text").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Enter") choose(chosen, true);
  if (!step || rows.length === 0) return;
  event.preventDefault();
  choose(Math.min(Math.max(chosen + step, 0), rows.length - 1), false);
});
watch("value", draw);
draw();
