// The page is whole without this: it adds a filter, buttons that copy, and the address it is read at.
const box = document.getElementById("filter");
const count = document.getElementById("count");
const said = document.getElementById("said");
const entries = [...document.querySelectorAll(".op")].map((op) => {
  const link = document.querySelector(`.toc a[href="#${op.dataset.name}"]`);
  return { op, line: link.parentElement, words: op.dataset.words };
});
const groups = [...document.querySelectorAll("main section[data-group]")].map((section) => {
  const link = document.querySelector(`.toc a[href="#${section.querySelector("h2").id}"]`);
  return { section, line: link.parentElement };
});

function filter() {
  const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { op, line, words } of entries) {
    const fits = wanted.every((word) => words.includes(word));
    op.hidden = line.hidden = !fits;
    shown += fits;
  }
  for (const { section, line } of groups) {
    section.hidden = line.hidden = !section.querySelector(".op:not([hidden])");
  }
  document.getElementById("start").hidden = wanted.length > 0;
  count.textContent = wanted.length ? `${shown} of ${entries.length} operations` : "";
}

function first() {
  return entries.find(({ op }) => !op.hidden)?.op;
}

box.closest(".find").hidden = false;
box.addEventListener("input", () => {
  filter();
  scrollTo(0, 0);
});
box.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    box.value = "";
    filter();
    box.blur();
  } else if (event.key === "Enter" && first()) {
    event.preventDefault();
    show(first());
  } else if (event.key === "ArrowDown" && first()) {
    event.preventDefault();
    first().querySelector("summary").focus();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target === box) return;
  event.preventDefault();
  box.focus();
  box.select();
});

function show(op) {
  op.open = true;
  const summary = op.querySelector("summary");
  summary.scrollIntoView();
  summary.focus({ preventScroll: true });
  history.replaceState(null, "", `#${op.dataset.name}`);
  mark();
}

function mark() {
  for (const { op, line } of entries) {
    const link = line.querySelector("a");
    if (location.hash === `#${op.dataset.name}`) link.setAttribute("aria-current", "location");
    else link.removeAttribute("aria-current");
  }
}

function arrive() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return mark();
  if (target.closest("[hidden]")) {
    box.value = "";
    filter();
  }
  const op = target.closest(".op");
  if (op) show(op);
}
addEventListener("hashchange", arrive);
// A link to where one is already changes no address, and still is followed.
document.querySelector(".toc").addEventListener("click", (event) => {
  if (event.target.hash && event.target.hash === location.hash) arrive();
});

for (const figure of document.querySelectorAll("figure")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy: ${figure.querySelector("figcaption").textContent}`);
  button.addEventListener("click", async () => {
    const code = figure.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = said.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = said.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  figure.append(button);
}

// Behind a proxy only the browser knows by which address it asks.
if (location.protocol.startsWith("http")) {
  for (const place of document.querySelectorAll("[data-origin]")) place.textContent = location.origin;
}
arrive();
