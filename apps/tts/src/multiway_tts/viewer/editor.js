// A text field whose turns have the colours of their speakers; what is written is put in with textContent only.
const find = (selector) => element.querySelector(selector);
const PAINTS = ["#2563eb", "#d97706", "#059669", "#c026d3", "#dc2626", "#0891b2"];
const LABEL = /^\s*([^:\uff1a\n]{1,60}?)\s*[:\uff1a]/;
const NUMBERED = /^speaker\s*([0-9]{1,6})$/i;
const field = find("textarea");
const mirror = find(".mirror");

function nameOf(label) {
  const numbered = NUMBERED.exec(label);
  if (numbered) return "Speaker " + Number(numbered[1]);
  const voices = (props.value || {}).voices || [];
  return voices.find((voice) => voice.toLowerCase() === label.toLowerCase()) || null;
}

// Lines with their speakers, as the script's reader sees them.
function linesOf(text) {
  let speaker = null;
  return text.split("\n").map((line) => {
    const label = LABEL.exec(line);
    const name = label ? nameOf(label[1]) : null;
    if (name) speaker = name;
    else if (speaker === null && line.trim()) speaker = "Speaker 1";
    return { line, speaker: line.trim() ? speaker : null, label: name ? label[0].length : 0 };
  });
}

function order(lines) {
  const names = [...new Set(lines.map((item) => item.speaker).filter(Boolean))];
  const number = (name) => (NUMBERED.exec(name) ? Number(NUMBERED.exec(name)[1]) : null);
  const numbered = names.filter((name) => number(name) !== null).sort((a, b) => number(a) - number(b));
  return [...numbered, ...names.filter((name) => number(name) === null)];
}

function piece(className, text, paint) {
  const item = document.createElement("span");
  item.className = className;
  item.textContent = text;
  if (paint) item.style.setProperty("--paint", paint);
  return item;
}

function draw() {
  const lines = linesOf(field.value);
  const speakers = order(lines);
  const counts = new Map(speakers.map((name) => [name, 0]));
  mirror.replaceChildren();
  for (const { line, speaker, label } of lines) {
    const paint = speaker === null ? null : PAINTS[speakers.indexOf(speaker) % PAINTS.length];
    if (label) mirror.append(piece("name", line.slice(0, label), paint));
    for (const part of line.slice(label).split(/(\[\s*pause[^\]\n]*\])/i)) {
      if (!part) continue;
      const isPause = /^\[\s*pause/i.test(part);
      mirror.append(piece(isPause ? "pause" : paint ? "said" : "", part, paint));
      if (speaker !== null && !isPause) counts.set(speaker, counts.get(speaker) + part.split(/\s+/).filter(Boolean).length);
    }
    mirror.append("\n");
  }
  mirror.append("\u200b");
  mirror.scrollTop = field.scrollTop;
  const legend = find(".legend");
  legend.replaceChildren();
  for (const name of speakers) {
    const who = piece("who", "", PAINTS[speakers.indexOf(name) % PAINTS.length]);
    const words = counts.get(name);
    who.append(piece("dot", ""), piece("", name + ": " + words + (words === 1 ? " word" : " words")));
    legend.append(who);
  }
}

field.addEventListener("input", () => {
  props.value = { ...(props.value || {}), text: field.value };
  draw();
});
field.addEventListener("scroll", () => { mirror.scrollTop = field.scrollTop; });
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    trigger("submit");
  }
});

function take() {
  const text = (props.value || {}).text || "";
  if (text !== field.value) field.value = text;
  draw();
}
watch("value", take);
take();
