// One card per node, keyed by its name.
function render({ model, el }) {
  const ui = frame(el, "nodes", "Nodes");
  const cards = make("div", { class: "sl-cards", role: "listbox", "aria-label": "Nodes. Arrow keys move, Enter selects." });
  const empty = make("div", { class: "sl-empty", text: "The cluster has no node." });
  ui.body.append(cards, empty);
  const summary = make("span", { class: "sl-summary" });
  ui.root.querySelector(".sl-title").after(summary);
  const kept = new Map();
  const figures = [["cpu", "cpu_load"], ["memory", "memory_load"], ["network", null], ["uptime", null]];

  function create(item) {
    const grid = make("div", { class: "sl-figures" });
    for (const [name, load] of figures) {
      grid.append(make("span", { text: name }),
        load ? make("div", { class: "sl-bar", "data-load": load }, make("i")) : make("span"),
        make("b", { "data-figure": name }));
    }
    const choose = () => select(model, item.key);
    grid.append(make("span", { text: "lease" }), make("b", { class: "sl-wide", "data-figure": "lease" }));
    return make("div", { role: "option", tabindex: "0", "data-key": item.key, onclick: choose,
      onkeydown: (event) => { const go = (step) => () => move(item.key, step);
        cursorKeys(event, { ArrowRight: go(1), ArrowDown: go(1), ArrowLeft: go(-1), ArrowUp: go(-1) }, choose); } },
      make("div", { class: "sl-top" }, make("span", { class: "sl-name" }), make("span", { class: "sl-word" })),
      grid, make("div", { class: "sl-held" }), make("div", { class: "sl-trouble" }));
  }

  function move(key, step) {
    const keys = [...kept.keys()];
    kept.get(keys[(keys.indexOf(key) + step + keys.length) % keys.length])?.focus();
  }

  function update(node, item) {
    attr(node, "class", `sl-card sl-t-${item.tone}`);
    attr(node, "aria-selected", model.get("selected") === item.key);
    attr(node, "aria-label", item.description);
    attr(node, "title", `${item.address}\nOS process ${item.pid}, last seen ${item.last_seen}`);
    attr(node, "data-status", item.status);
    attr(node, "data-pid", item.pid);
    text(node.querySelector(".sl-name"), item.name);
    const well = item.health === "healthy" || ["down", "suspected"].includes(item.status);  // these say it all
    const words = [`${item.symbol} ${item.status}`, ...item.flags, ...(well ? [] : [`${item.health_symbol} ${item.health}`])];
    text(node.querySelector(".sl-word"), words.join(" · "));
    attr(node, "data-flags", item.flags.join(",") || null);
    text(node.querySelector("[data-figure=lease]"), item.lease);
    for (const [name, load] of figures) {
      text(node.querySelector(`[data-figure=${name}]`), item[name]);
      if (!load) continue;
      const bar = node.querySelector(`[data-load=${load}]`);
      bar.classList.toggle("sl-none", item[load] === null);
      bar.firstChild.style.width = `${100 * (item[load] ?? 0)}%`;
    }
    text(node.querySelector(".sl-held"), item.sandboxes.length ? `▣ ${item.sandboxes.join(", ")}` : "no sandbox");
    text(node.querySelector(".sl-trouble"), item.trouble);
  }

  return follow(model, ["view", "selected"], () => {
    const view = model.get("view");
    ui.set(view, "Nodes");
    text(summary, view.note ? "" : view.summary || "");  // what is old is not summed up
    attr(summary, "class", `sl-summary sl-${view.tone}`);
    const items = view.cards || [];
    empty.style.display = items.length ? "none" : "block";
    cards.style.display = items.length ? "grid" : "none";
    keyed(cards, items, kept, { create, update });
  });
}
export default { render };
