// The supervision tree: places come from Python; here they only become boxes that keep their identity.
const BOX = { width: 168, height: 46 };

function render({ model, el }) {
  const ui = frame(el, "tree", "Supervision tree");
  const edges = make("g", { svg: true });
  const boxes = make("g", { svg: true });
  const svg = make("svg", { svg: true, role: "tree", tabindex: "0" }, edges, boxes);
  const empty = make("div", { class: "sl-empty", text: "No processes to show." });
  ui.body.append(make("div", { class: "sl-scroll" }, svg), empty);

  const id = `sl-${model.model_id || Math.random().toString(36).slice(2)}`;
  const keptBoxes = new Map(), keptEdges = new Map(), lives = new Map();
  let nodes = [], cursor = "", title = null;

  function box(item) {
    const part = (tag, props) => make(tag, { svg: true, ...props });
    const round = item.type === "supervisor" ? 5 : BOX.height / 2;
    const shape = { width: BOX.width, height: BOX.height, rx: round };
    const node = part("g", { class: "sl-node", role: "treeitem", id: `${id}-${item.key}`, "data-key": item.key });
    node.append(
      part("title", {}),
      part("rect", { ...shape, class: "sl-box" }), part("rect", { ...shape, class: "sl-glow" }),
      part("rect", { x: -3, y: -3, width: BOX.width + 6, height: BOX.height + 6, rx: round + 3, class: "sl-ring" }),
      part("text", { x: 17, y: 19, class: "sl-name" }), part("text", { x: 17, y: 36, class: "sl-state" }),
      part("text", { x: BOX.width - 15, y: 36, class: "sl-pid", "text-anchor": "end" }),
      part("text", { x: BOX.width - 15, y: 19, class: "sl-badge", "text-anchor": "end" }));
    node.addEventListener("click", () => { cursor = item.key; select(model, item.key); });
    return node;
  }

  function update(node, item, fresh) {
    const selected = model.get("selected") === item.key;
    node.style.transform = `translate(${item.x}px, ${item.y}px)`;
    attr(node, "class", ["sl-node", `sl-t-${item.tone}`, selected && "sl-selected", cursor === item.key && "sl-cursor",
      node.classList.contains("sl-flash") && "sl-flash", fresh && "sl-fresh"].filter(Boolean).join(" "));
    attr(node, "aria-label", item.description);
    attr(node, "aria-level", item.depth + 1);
    attr(node, "aria-selected", selected);
    attr(node, "data-status", item.status);
    attr(node, "data-pid", item.pid);
    const put = (selector, value) => text(node.querySelector(selector), value);
    put("title", item.description);
    const room = item.mailbox && item.restarts ? 11 : item.mailbox || item.restarts ? 14 : 18;
    put(".sl-name", item.label.length > room ? `${item.label.slice(0, room - 1)}…` : item.label);
    put(".sl-state", `${item.symbol} ${item.word}`);
    put(".sl-pid", item.pid ? `<…${item.pid.slice(item.pid.lastIndexOf(".") + 1)}` : "no pid");
    put(".sl-badge", [item.mailbox ? `✉ ${item.mailbox}` : "", item.restarts ? `↻ ${item.restarts}` : ""].filter(Boolean).join("  "));
    // A new pid under the same key is a restart: the same box, another process.
    const before = lives.get(item.key);
    if (item.pid && before && before !== item.pid) flash(node);
    if (item.pid) lives.set(item.key, item.pid);
  }

  function flash(node) {
    node.classList.remove("sl-flash");
    void node.getBoundingClientRect();  // restarts the animation when it is running already
    node.classList.add("sl-flash");
    node.addEventListener("animationend", () => node.classList.remove("sl-flash"), { once: true });
  }

  function leave(node) {
    node.classList.add("sl-leaving");
    setTimeout(() => node.remove(), 320);
  }

  function curve(from, to) {
    const x1 = from.x + BOX.width, y1 = from.y + BOX.height / 2, x2 = to.x, y2 = to.y + BOX.height / 2, middle = (x1 + x2) / 2;
    return `M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
  }

  function draw() {
    const view = model.get("view");
    ui.set(view, view.title ? `Supervision tree of ${view.title}` : "Supervision tree");
    if (title !== view.title) { lives.clear(); title = view.title; }  // another sandbox: nothing was restarted
    nodes = view.nodes || [];
    const places = new Map(nodes.map((node) => [node.key, node]));
    for (const key of lives.keys()) if (!places.has(key)) lives.delete(key);
    if (!places.has(cursor)) cursor = places.has(model.get("selected")) ? model.get("selected") : nodes[0]?.key ?? "";
    svg.style.display = nodes.length ? "block" : "none";
    empty.style.display = nodes.length ? "none" : "block";
    // A tree that is a little too wide shrinks; one that is much too wide scrolls, so that it stays readable.
    attr(svg, "viewBox", `0 0 ${view.width || 200} ${view.height || 66}`);
    svg.style.width = `min(100%, ${view.width}px)`;
    svg.style.minWidth = `${0.7 * view.width}px`;
    attr(svg, "aria-label", `Supervision tree of ${view.title || "nothing"}, ${view.real ? "real" : "simulated"}. Arrow keys move, Enter selects.`);
    keyed(edges, nodes.filter((node) => node.parent), keptEdges, {
      create: () => make("path", { svg: true, class: "sl-edge" }), leave,
      update: (path, item) => { const d = curve(places.get(item.parent), item); attr(path, "d", d); path.style.d = `path("${d}")`; },
    });
    keyed(boxes, nodes, keptBoxes, { create: box, update, leave });
    attr(svg, "aria-activedescendant", cursor ? `${id}-${cursor}` : null);
  }

  function go(key) {
    if (!key) return;
    cursor = key;
    draw();
    keptBoxes.get(key)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  const at = () => nodes.findIndex((node) => node.key === cursor);
  svg.addEventListener("keydown", (event) => cursorKeys(event, {
    ArrowDown: () => go(nodes[Math.min(at() + 1, nodes.length - 1)]?.key),
    ArrowUp: () => go(nodes[Math.max(at() - 1, 0)]?.key),
    ArrowLeft: () => go(nodes[at()]?.parent),
    ArrowRight: () => go(nodes.find((node) => node.parent === cursor)?.key),
    Home: () => go(nodes[0]?.key),
    End: () => go(nodes[nodes.length - 1]?.key),
  }, () => cursor && select(model, cursor)));

  return follow(model, ["view", "selected"], draw);
}
export default { render };
