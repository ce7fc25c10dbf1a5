// Many pictures, a card each; everything that was read is put in with textContent, never as markup.
function make(name, className, text) {
  const item = document.createElement(name);
  item.className = className;
  if (text !== undefined) item.textContent = text;
  return item;
}

function cardOf(data) {
  const card = make("div", data.error ? "card failed" : "card");
  if (data.image) {
    const image = make("img", "");
    image.src = data.image;
    image.alt = data.name;
    card.append(image);
  }
  const words = make("div", "words", data.error || undefined);
  for (const segment of data.segments) {
    const piece = make("span", "", segment.text);
    piece.style.setProperty("--paint", segment.colour || "inherit");
    if (!segment.colour) piece.style.fontWeight = "inherit";
    words.append(piece);
  }
  const foot = make("div", "foot");
  foot.append(make("b", "", data.name), make("span", "", data.detail));
  card.append(words, foot);
  return card;
}

function draw() {
  element.querySelector(".cards").replaceChildren(...(props.value || []).map(cardOf));
}

watch("value", draw);
draw();
