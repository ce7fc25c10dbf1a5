// Tokens coloured by how surprised the model was, and for a chosen one what else it thought of.
// All that a model or a visitor wrote is put in with textContent, never as markup.
const find = (selector) => element.querySelector(selector);
const MOST_BITS = 12;
let spans = [];
let chosen = -1;

function bits(token) {
  return token.p === null ? 0 : -token.p / Math.LN2;
}

function colour(token) {
  if (token.p === null) return "transparent";
  const share = Math.min(bits(token) / MOST_BITS, 1);
  if (share < 0.5) return "hsl(28 95% 55% / " + (0.9 * share).toFixed(3) + ")";
  const late = 2 * share - 1;
  return "hsl(" + (28 - 38 * late).toFixed(0) + " 90% 52% / " + (0.45 + 0.2 * late).toFixed(3) + ")";
}

function percent(logProbability) {
  const value = 100 * Math.exp(logProbability);
  if (value < 0.01) return "< 0.01 %";
  return value.toFixed(value >= 10 ? 0 : value >= 0.1 ? 1 : 2) + " %";
}

function visible(text) {
  return text.replaceAll("\n", "\u21b5").replaceAll("\t", "\u21e5").replaceAll(" ", "\u00b7") || "(empty)";
}

function row(text, logProbability, taken) {
  const line = document.createElement("div");
  line.className = taken ? "row taken" : "row";
  const fill = document.createElement("span");
  fill.className = "fill";
  fill.style.width = Math.max(1, 100 * Math.exp(logProbability)) + "%";
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = visible(text);
  const number = document.createElement("span");
  number.className = "number";
  number.textContent = percent(logProbability);
  line.append(fill, name, number);
  return line;
}

function mark(span, isChosen) {
  if (!span) return;
  span.classList.toggle("chosen", isChosen);
  span.setAttribute("aria-selected", isChosen);
}

function choose(index) {
  const tokens = (props.value || {}).tokens || [];
  mark(spans[chosen], false);
  chosen = index;
  const token = tokens[index];
  find(".hint").hidden = Boolean(token);
  find(".chosen-token").hidden = !token;
  find(".bars").replaceChildren();
  if (!token) return;
  mark(spans[index], true);
  spans[index].scrollIntoView({ block: "nearest" });
  find(".piece").textContent = visible(token.t);
  find(".chosen-token .number").textContent =
    token.p === null ? "nothing before it" : percent(token.p) + ", " + bits(token).toFixed(1) + " bits";
  const others = token.a || [];
  for (const [text, value] of others) find(".bars").append(row(text, value, text === token.t));
  if (token.p !== null && !others.some(([text]) => text === token.t)) find(".bars").append(row(token.t, token.p, true));
}

function draw() {
  const value = props.value || {};
  const tokens = value.tokens || [];
  find(".summary").textContent = value.summary || "";
  find(".from").textContent = "expected";
  find(".to").textContent = "surprising";
  const text = find(".text");
  const isGrowing = value.growing && spans.length > 0 && tokens.length >= spans.length;
  if (!isGrowing) {
    text.replaceChildren();
    spans = [];
    choose(-1);
  }
  for (let index = spans.length; index < tokens.length; index += 1) {
    const span = document.createElement("span");
    span.className = "token";
    span.setAttribute("role", "option");
    span.setAttribute("aria-selected", false);
    span.textContent = tokens[index].t;
    span.style.background = colour(tokens[index]);
    if (tokens[index].p !== null) span.title = percent(tokens[index].p);
    span.addEventListener("click", () => choose(index === chosen ? -1 : index));
    text.append(span);
    spans.push(span);
  }
  text.setAttribute("role", tokens.length ? "listbox" : "group"); // a list box has options
  if (tokens.length === 0) {
    const note = document.createElement("span");
    note.className = "empty";
    note.textContent = value.note || "";
    text.replaceChildren(note);
  }
  if (value.growing) text.scrollTop = text.scrollHeight;
}

find(".text").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || spans.length === 0) return;
  event.preventDefault();
  choose(Math.min(Math.max(chosen + step, 0), spans.length - 1));
});
watch("value", draw);
draw();
