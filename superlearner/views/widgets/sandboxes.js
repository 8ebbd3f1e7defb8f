// The table of sandboxes, keyed by id; a cell that tells of a change lights up once.
function render({ model, el }) {
  const ui = frame(el, "sandboxes", "Sandboxes");
  const head = make("tr", { role: "row" });
  const body = make("tbody");
  const table = make("table", { role: "grid", "aria-label": "Sandboxes. Arrow keys move, Enter selects." },
    make("thead", {}, head), body);
  const scroll = make("div", { class: "sl-scroll" }, table);
  const empty = make("div", { class: "sl-empty", text: "No sandbox yet. “Create” starts one." });
  ui.body.append(scroll, empty);
  const kept = new Map();
  const telling = new Set(["status", "node", "epoch", "restarts"]);
  let columns = [];

  function create(item) {
    const choose = () => select(model, item.key);
    return make("tr", { role: "row", tabindex: "0", "data-key": item.key, onclick: choose,
      onkeydown: (event) => cursorKeys(event, { ArrowDown: () => move(item.key, 1), ArrowUp: () => move(item.key, -1) }, choose) },
      ...columns.map(([name]) => make("td", { role: "gridcell", "data-column": name })));
  }

  function move(key, step) {
    const keys = [...kept.keys()];
    kept.get(keys[Math.max(0, Math.min(keys.length - 1, keys.indexOf(key) + step))])?.focus();
  }

  function update(row, item, fresh) {
    attr(row, "aria-selected", model.get("selected") === item.key);
    attr(row, "aria-label", item.description);
    attr(row, "title", item.reason || null);
    attr(row, "data-status", item.status);
    for (const cell of row.children) {
      const name = cell.dataset.column;
      const value = name === "status" ? `${item.symbol} ${item.status}` : item[name];
      if (name === "status" && !cell.classList.contains(`sl-${item.tone}`)) attr(cell, "class", `sl-${item.tone}`);
      if (cell.textContent === value) continue;
      cell.textContent = value;
      if (!fresh && telling.has(name)) {
        cell.classList.remove("sl-changed"); void cell.offsetWidth; cell.classList.add("sl-changed");
      }
    }
  }

  return follow(model, ["view", "selected"], () => {
    const view = model.get("view");
    ui.set(view, "Sandboxes");
    const items = view.rows || [];
    if (!columns.length && view.columns) {
      columns = view.columns;
      head.append(...columns.map(([, title]) => make("th", { scope: "col", text: title })));
    }
    empty.style.display = items.length ? "none" : "block";
    scroll.style.display = items.length ? "block" : "none";
    keyed(body, items, kept, { create, update });
  });
}
export default { render };
