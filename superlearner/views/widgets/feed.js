// What happened, oldest first, keyed by the event's number; it follows the end unless the reader has scrolled up.
function render({ model, el }) {
  const ui = frame(el, "feed", "What happened");
  const list = make("ol", { role: "log", "aria-live": "polite", "aria-label": "What happened, newest last", tabindex: "0" });
  const empty = make("div", { class: "sl-empty", text: "Nothing has happened yet." });
  ui.body.append(list, empty);
  const kept = new Map();
  let drawn = false;

  function create(item) {
    return make("li", { "data-key": item.key, "data-kind": item.kind },
      make("span", { class: "sl-at" }), make("span", { class: "sl-symbol", "aria-hidden": "true" }), make("span", { class: "sl-said" }));
  }

  function update(line, item, fresh) {
    if (fresh) attr(line, "class", `sl-t-${item.tone}${drawn ? " sl-new" : ""}`);
    attr(line, "title", item.more || null);
    text(line.children[0], item.time);
    text(line.children[1], item.symbol);
    text(line.children[2], item.sentence);
  }

  return follow(model, ["view"], () => {
    const view = model.get("view");
    ui.set(view, view.title || "What happened");
    const items = view.entries || [];
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    empty.style.display = items.length ? "none" : "block";
    list.style.display = items.length ? "block" : "none";
    keyed(list, items, kept, { create, update });
    if (atEnd || !drawn) requestAnimationFrame(() => { list.scrollTop = list.scrollHeight; });
    drawn = true;
  });
}
export default { render };
