// The live picture of a band in a notebook: draws `picture` once, writes `told` into it at each look, and asks for an end.
// It keeps nothing: all that is known stands in the model, so that a notebook that is opened again shows the same.

function places(svg, rooms) {
  const found = new Map();
  for (const node of svg.querySelectorAll("g[data-id]")) {
    const id = node.dataset.id, texts = [...node.querySelectorAll("text")];
    if (node.classList.contains("dead")) found.set(id, { node, text: texts[0] });
    else if (id in rooms) found.set(id, { node, text: texts.find(each => each.textContent === rooms[id]) });
  }
  for (const place of found.values()) {
    if (!place.text) continue;
    place.room = Number(place.text.getAttribute("textLength")) || 0;
    if (place.node.classList.contains("dead")) place.room = Number(place.node.querySelector("rect").getAttribute("width")) - 24;
    place.text.removeAttribute("textLength");
  }
  return found;
}

function write(place, told) {
  if (!place.text || place.text.textContent === told) return;
  place.text.textContent = told;
  place.text.removeAttribute("textLength");
  if (place.room && place.text.getComputedTextLength() > place.room) place.text.setAttribute("textLength", place.room);
}

function render({ model, el }) {
  el.classList.add("ensemble-live");
  el.innerHTML = `<header><span class="dot"></span><span class="line" role="status"></span><button type="button">Stop</button></header>
<p class="trouble"></p><div class="picture"></div><p class="also"></p>`;
  const part = name => el.querySelector(name), button = part("button");
  let known = new Map(), edges = [], before = {};

  function draw() {
    part(".picture").innerHTML = model.get("picture");
    const svg = part("svg");
    if (!svg) return;
    known = places(svg, model.get("rooms"));
    edges = [...svg.querySelectorAll("g[data-from]")].map(node => ({ node, ends: [node.dataset.from, node.dataset.to] }));
    before = {};
    show();
  }

  function show() {
    const told = model.get("told"), counts = told.counts ?? {};
    el.dataset.state = told.state;
    part(".line").textContent = told.line;
    part(".also").textContent = told.also ?? "";
    part(".trouble").textContent = told.trouble ?? "";
    button.disabled = told.state === "closed";
    button.textContent = told.state === "closed" ? "Stopped" : "Stop";
    const moved = id => id in counts && (before[id] ?? counts[id]) < counts[id];
    for (const [id, place] of known) {
      write(place, told.texts?.[id] ?? "");
      place.node.classList.toggle("moved", moved(id));
      if (place.node.classList.contains("dead")) place.node.classList.toggle("some", counts[id] > 0);
    }
    for (const { node, ends } of edges) {
      const counted = ends.filter(id => id in counts);
      node.classList.toggle("moved", counted.length > 0 && counted.every(moved));
      node.classList.toggle("passed", counted.length > 0 && counted.every(id => counts[id] > 0));
    }
    before = counts;
  }

  function stop() {
    button.disabled = true;
    button.textContent = "Stopping …";
    model.send({ ask: "stop" });
  }

  button.addEventListener("click", stop);
  model.on("change:picture", draw);
  model.on("change:told", show);
  draw();
  show();
  return () => {
    model.off("change:picture", draw);
    model.off("change:told", show);
  };
}

export default { render };
