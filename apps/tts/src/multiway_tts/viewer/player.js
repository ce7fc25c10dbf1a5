// The sound while it is made (scheduled piece by piece), its waveform in the colours of the turns, and the turns.
// A click on either plays from there. All that was written is put in with textContent only.
const find = (selector) => element.querySelector(selector);
const PAINTS = ["#2563eb", "#d97706", "#059669", "#c026d3", "#dc2626", "#0891b2"];
const GREY = "#94a3b8";
const BLOCK = 256; // samples of one stroke of the waveform at least
const audio = new Audio();
let context = null;
let run = null; // which speech this is
let pieces = []; // Int16Array by number
let count = 0; // samples in the unbroken beginning
let joined = 0; // pieces in it
let peaks = [];
let schedule = []; // [time in the context, first sample] of what plays live
let sources = [];
let nextTime = 0;
let whole = false;
let frame = 0;

const value = () => props.value || {};
const rate = () => value().rate || 16000;
const clock = (s) => Math.floor(s / 60) + ":" + (s % 60).toFixed(1).padStart(4, "0");

function decode(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Int16Array(bytes.buffer, 0, bytes.length >> 1);
}

// Browsers start sound only after a gesture: any click on the page is one.
function wake() {
  if (!context) context = new (window.AudioContext || window.webkitAudioContext)();
  if (context.state === "suspended") context.resume();
}
for (const gesture of ["pointerdown", "click", "keydown"]) document.addEventListener(gesture, wake, { capture: true });

function addPeaks(samples) {
  for (let start = 0; start < samples.length; start += BLOCK) {
    let high = 0;
    for (let i = start; i < Math.min(start + BLOCK, samples.length); i += 1) high = Math.max(high, Math.abs(samples[i]));
    peaks.push([samples.length - start < BLOCK ? samples.length - start : BLOCK, high / 32768]);
  }
}

function playLive(samples, first) {
  if (!find(".live input").checked || !context || context.state !== "running" || !samples.length) return;
  const buffer = context.createBuffer(1, samples.length, rate());
  buffer.getChannelData(0).set(Float32Array.from(samples, (s) => s / 32768));
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  nextTime = Math.max(nextTime, context.currentTime + (schedule.length ? 0.05 : 0.2));
  source.start(nextTime);
  schedule.push([nextTime, first]);
  sources.push(source);
  nextTime += buffer.duration;
}

function stopLive() {
  for (const source of sources) {
    try { source.stop(); } catch (error) { /* it has ended */ }
  }
  sources = [];
  schedule = [];
  nextTime = 0;
}

function isLive() {
  return context && schedule.length > 0 && context.currentTime < nextTime;
}

function position() {
  if (!isLive()) return audio.currentTime || 0;
  let found = null;
  for (const item of schedule) if (item[0] <= context.currentTime) found = item;
  return found ? found[1] / rate() + context.currentTime - found[0] : 0;
}

function wav(samples) {
  const head = new DataView(new ArrayBuffer(44));
  const text = (place, word) => [...word].forEach((c, i) => head.setUint8(place + i, c.charCodeAt(0)));
  text(0, "RIFF"); text(8, "WAVEfmt "); text(36, "data");
  head.setUint32(4, 36 + samples.byteLength, true);
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true); head.setUint16(22, 1, true);
  head.setUint32(24, rate(), true); head.setUint32(28, rate() * 2, true);
  head.setUint16(32, 2, true); head.setUint16(34, 16, true);
  head.setUint32(40, samples.byteLength, true);
  return new Blob([head, samples], { type: "audio/wav" });
}

function restart(id) {
  run = id;
  stopLive();
  audio.pause();
  if (audio.src) URL.revokeObjectURL(audio.src);
  audio.removeAttribute("src");
  pieces = []; peaks = []; count = 0; joined = 0; whole = false;
}

function take() {
  const now = value();
  if (now.run !== run) restart(now.run === undefined ? null : now.run);
  for (const [number, text] of now.chunks || []) if (!pieces[number] && !whole) pieces[number] = decode(text);
  while (!whole && pieces[joined]) {
    addPeaks(pieces[joined]);
    playLive(pieces[joined], count);
    count += pieces[joined].length;
    joined += 1;
  }
  if (now.pcm && !whole) {
    const samples = decode(now.pcm);
    whole = true;
    if (samples.length > count) playLive(samples.subarray(count), count);
    peaks = [];
    addPeaks(samples);
    count = samples.length;
    audio.src = URL.createObjectURL(wav(samples));
  }
  find(".summary").textContent = now.summary || "";
  find(".empty").textContent = count ? "" : now.note || "";
  find(".play").disabled = !whole && !isLive();
  list();
  paint();
  tick();
}

function turnAt(seconds) {
  return (value().turns || []).findIndex((turn) => seconds >= turn.start && seconds < turn.end);
}

function paint() {
  const canvas = find("canvas");
  const box = canvas.getBoundingClientRect();
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(box.width * scale));
  canvas.height = Math.max(1, Math.round(box.height * scale));
  const pen = canvas.getContext("2d");
  const total = peaks.reduce((sum, [length]) => sum + length, 0);
  if (!total) return;
  const turns = value().turns || [];
  for (const turn of turns) {
    pen.fillStyle = PAINTS[turn.speaker % PAINTS.length] + "1f";
    const left = (turn.start * rate() / total) * canvas.width;
    pen.fillRect(left, 0, ((turn.end - turn.start) * rate() / total) * canvas.width, canvas.height);
  }
  const width = Math.max(1, Math.round(2 * scale));
  let index = 0;
  let done = 0;
  for (let x = 0; x < canvas.width; x += width + 1) {
    const until = ((x + width + 1) / canvas.width) * total;
    let high = 0;
    while (index < peaks.length && done + peaks[index][0] <= until) {
      high = Math.max(high, peaks[index][1]);
      done += peaks[index][0];
      index += 1;
    }
    if (index < peaks.length) high = Math.max(high, peaks[index][1]);
    const turn = turnAt(((x / canvas.width) * total) / rate());
    pen.fillStyle = turn < 0 ? GREY : PAINTS[turns[turn].speaker % PAINTS.length];
    const height = Math.max(scale, high * canvas.height * 0.94);
    pen.fillRect(x, (canvas.height - height) / 2, width, height);
  }
}

function list() {
  const box = find(".turns");
  const { turns = [], speakers = [] } = value();
  box.replaceChildren();
  turns.forEach((turn) => {
    const row = document.createElement("button");
    row.type = "button";
    row.className = "turn";
    row.setAttribute("role", "listitem");
    row.style.setProperty("--paint", PAINTS[turn.speaker % PAINTS.length]);
    for (const [name, text] of [
      ["dot", ""],
      ["when", (turn.estimated ? "\u2248 " : "") + clock(turn.start)],
      ["who", speakers[turn.speaker] || ""],
      ["words" + (turn.disclaimer ? " disclaimer" : ""), turn.text],
    ]) {
      const cell = document.createElement("span");
      cell.className = name;
      cell.textContent = text;
      row.append(cell);
    }
    row.title = "play from here";
    row.addEventListener("click", () => playFrom(turn.start));
    box.append(row);
  });
}

function playFrom(seconds) {
  if (!whole) return;
  stopLive();
  audio.currentTime = Math.max(0, Math.min(seconds, count / rate()));
  audio.play().catch(() => {});
  tick();
}

function tick() {
  cancelAnimationFrame(frame);
  const seconds = position();
  const total = count / rate();
  const playing = isLive() || !audio.paused;
  find(".play").textContent = playing ? "\u275a\u275a" : "\u25b6";
  find(".play").setAttribute("aria-label", playing ? "Pause" : "Play");
  find(".play").disabled = !whole && !playing;
  find(".clock").textContent = clock(seconds) + " / " + clock(total);
  const wave = find(".wave");
  wave.setAttribute("aria-valuemax", total.toFixed(1));
  wave.setAttribute("aria-valuenow", seconds.toFixed(1));
  const cursor = find(".cursor");
  cursor.hidden = !total;
  cursor.style.left = total ? (100 * Math.min(1, seconds / total)).toFixed(3) + "%" : "0";
  const now = playing || seconds > 0 ? turnAt(seconds) : -1;
  find(".turns").querySelectorAll(".turn").forEach((row, index) => row.classList.toggle("now", index === now));
  if (playing || value().state === "speaking") frame = requestAnimationFrame(tick);
}

find(".play").addEventListener("click", () => {
  if (isLive()) {
    const seconds = position();
    stopLive();
    if (whole) audio.currentTime = seconds;
  } else if (whole) {
    if (audio.paused) audio.play().catch(() => {});
    else audio.pause();
  }
  tick();
});
find(".wave").addEventListener("click", (event) => {
  const box = find(".wave").getBoundingClientRect();
  playFrom(((event.clientX - box.left) / box.width) * (count / rate()));
});
find(".wave").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  playFrom(position() + step);
});
find(".live input").addEventListener("change", (event) => { if (!event.target.checked) { stopLive(); tick(); } });
audio.addEventListener("ended", tick);
audio.addEventListener("pause", tick);
new ResizeObserver(paint).observe(find(".wave"));
watch("value", take);
take();
