// Shared by every superlearner widget: small helpers over the DOM, and no state of their own.
const SVG = "http://www.w3.org/2000/svg";

/** Make an element; `props` are attributes, except `text` and `on…` handlers. */
function make(tag, props = {}, ...children) {
  const node = props.svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "svg") continue;
    else if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Set a text or attribute only when it changes, so that a screen reader is not told the same thing twice. */
function text(node, value) { if (node.textContent !== value) node.textContent = value; }
function attr(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** Keep one DOM node per key: create what is new, update what stays, let go of what is gone, in the given order. */
function keyed(parent, items, kept, { create, update, leave = (node) => node.remove() }) {
  const wanted = new Set(items.map((item) => item.key));
  for (const [key, node] of kept) if (!wanted.has(key)) { kept.delete(key); leave(node); }
  let before = null;
  for (const item of items) {
    let node = kept.get(item.key);
    const fresh = !node;
    if (fresh) { node = create(item); kept.set(item.key, node); }
    const place = before ? before.nextSibling : parent.firstChild;
    if (node !== place) parent.insertBefore(node, place);
    update(node, item, fresh);
    before = node;
  }
}

/** The frame that all widgets share: a title, a remark, and whether what is shown is real or simulated. */
function frame(el, name, title) {
  const heading = make("span", { class: "sl-title", text: title });
  const note = make("span", { class: "sl-note" });
  const origin = make("span", { class: "sl-origin" });
  const body = make("div", { class: "sl-body" });
  const root = make("div", { class: `sl sl-${name}` }, make("div", { class: "sl-head" }, heading, note, origin), body);
  // Plain keys belong to the widget that has the focus: Lab's own (arrows change the cell, x cuts it) must not run.
  // What comes with Control or Command, such as save, goes through.
  root.addEventListener("keydown", (event) => { if (!(event.ctrlKey || event.metaKey || event.altKey)) event.stopPropagation(); });
  el.append(root);
  return {
    root, body,
    set(view, newTitle = title) {
      text(heading, newTitle);
      text(note, view.note || ""); attr(note, "title", view.note || null);
      text(origin, view.real ? "real" : "simulated");
      origin.classList.toggle("sl-simulated", !view.real);
      attr(origin, "title", view.real ? "What you see are real processes." : "What you see is simulated: no process runs.");
    },
  };
}

/** Move a cursor over a list of keys with the arrow keys; Enter or Space chooses. */
function cursorKeys(event, moves, choose) {
  const move = moves[event.key];
  if (move) move();
  else if (event.key === "Enter" || event.key === " ") choose();
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function follow(model, names, draw) {
  for (const name of names) model.on(`change:${name}`, draw);
  draw();
  return () => { for (const name of names) model.off(`change:${name}`, draw); };
}

function select(model, key) { model.set("selected", key); model.save_changes(); }
