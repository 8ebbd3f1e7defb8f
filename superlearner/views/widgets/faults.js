// The faults in force, oldest first, keyed by their ids, each with the button that ends it.
function render({ model, el }) {
  const ui = frame(el, "faults", "Faults");
  const list = make("ul", { "aria-label": "Faults in force" });
  const empty = make("div", { class: "sl-none", text: "None is in force." });
  ui.body.append(list, empty);
  const kept = new Map();

  function create(item) {
    const end = make("button", { text: "End", "aria-label": `End ${item.key}`, title: "Ends this fault alone", onclick: () => {
      if (end.getAttribute("aria-disabled") === "true") return;
      attr(end, "aria-disabled", true);
      model.send({ press: "revert", target: item.key, turn: 0, choice: "", answer: "" });
      setTimeout(() => attr(end, "aria-disabled", false), 3000);  // one that could not be ended can be tried again
    } });
    return make("li", { "data-key": item.key, "data-kind": item.kind },
      make("span", { class: "sl-symbol sl-warn", "aria-hidden": "true", text: "▲" }),
      make("span", { class: "sl-what" }), make("span", { class: "sl-since" }), end);
  }

  function update(line, item) {
    text(line.querySelector(".sl-what"), item.what);
    text(line.querySelector(".sl-since"), `since ${item.since}`);
    attr(line, "title", item.key);
  }

  return follow(model, ["view"], () => {
    const view = model.get("view");
    ui.set(view, "Faults on purpose");
    const items = view.rows || [];
    empty.style.display = items.length ? "none" : "";
    list.style.display = items.length ? "" : "none";
    keyed(list, items, kept, { create, update });
  });
}
export default { render };
