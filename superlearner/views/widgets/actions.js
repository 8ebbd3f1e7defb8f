// The buttons. Which of them work, and which click counts, is decided in Python (superlearner.views.actions and desk).
const SYMBOLS = { good: "✓", busy: "", warn: "▲", bad: "✕", quiet: "" };

function render({ model, el }) {
  const ui = frame(el, "actions", "Actions");
  const groups = make("div", { class: "sl-groups", role: "toolbar", "aria-label": "Actions" });
  const status = make("span", { class: "sl-status", role: "status", "aria-live": "polite" });
  const sure = make("button", { class: "sl-sure", onclick: (event) => once(event, () => press(model.get("view").armed, "yes")) });
  const cancel = make("button", { text: "No", onclick: (event) => once(event, () => press(model.get("view").armed, "no")) });
  const line = make("div", { class: "sl-line" }, status, sure, cancel);
  ui.body.append(groups, line);
  const keptGroups = new Map(), keptButtons = new Map(), keptChoices = new Map();
  let sentOn = -1, told = null;

  // The browser counts the clicks of a double click: only the first one is meant.
  function once(event, then) { if (event.detail <= 1) then(); }

  function press(action, answer = "") {
    const { turn, busy } = model.get("view");
    if (!action || ((busy || sentOn === turn) && !action.urgent)) return;
    sentOn = turn;  // nothing more is sent until Python has answered with the next turn, save what heals
    const choice = keptChoices.get(action.name)?.value ?? "";
    model.send({ press: action.name, target: action.target, turn, choice, answer });
    told = null;
    draw();
    setTimeout(() => {
      if (sentOn !== model.get("view").turn) return;
      told = { text: "The kernel is busy with a cell; this click waits for it.", tone: "busy" };
      draw();
    }, 1500);
  }

  function click(event, key) {
    const action = model.get("view").buttons.find((button) => button.name === key);
    once(event, () => {
      if (action.reason) { told = { text: action.reason, tone: "warn" }; draw(); } else press(action);
    });
  }

  /** What can be chosen beside a button; a choice that is still offered stays. */
  function choose(item) {
    if (!item.choices.length) return;
    let list = keptChoices.get(item.name);
    if (!list) {
      list = make("select", { "aria-label": `${item.label} ${item.group.toLowerCase()}: how`, "data-choice": item.name });
      keptChoices.set(item.name, list);
      keptButtons.get(item.name).after(list);
    }
    const offered = JSON.stringify(item.choices);
    if (list.dataset.offered === offered) return;
    const chosen = list.value;
    list.replaceChildren(...item.choices.map(([value, label]) => make("option", { value, text: label })));
    if (list.dataset.offered && item.choices.some(([value]) => value === chosen)) list.value = chosen;
    list.dataset.offered = offered;
  }

  function draw() {
    const view = model.get("view");
    ui.set(view, "Actions");
    const waiting = view.busy || sentOn === view.turn;
    const names = [...new Set(view.buttons.map((button) => button.group))];
    keyed(groups, names.map((name) => ({ key: name })), keptGroups, {
      create: (group) => make("div", { class: "sl-group", role: "group", "aria-label": group.key }, make("span", { class: "sl-of" }, group.key, " ", make("b"))),
      update: (node, group) => {
        const target = view.buttons.find((button) => button.group === group.key && button.label !== "Create");
        const label = target.shown || target.target;
        text(node.querySelector("b"), label || "none selected");
      },
    });
    for (const item of view.buttons) {
      let button = keptButtons.get(item.name);
      if (!button) {
        button = make("button", { text: item.label, "data-action": item.name, onclick: (event) => click(event, item.name) });
        keptButtons.set(item.name, button);
        keptGroups.get(item.group).append(button);
      }
      choose(item);
      button.classList.toggle("sl-danger", item.dangerous);
      attr(button, "aria-disabled", Boolean(item.reason) || (waiting && !item.urgent));
      attr(button, "title", item.reason || item.title);
      attr(button, "aria-label", `${item.label} ${item.group.toLowerCase()} ${item.target}${item.reason ? `. Not now: ${item.reason}` : ""}`);
    }
    const said = told || view.status;
    const symbol = SYMBOLS[said.tone];
    attr(line, "class", `sl-line${view.busy ? " sl-busy-now" : ""}`);
    attr(status, "class", `sl-status sl-${said.tone}`);
    text(status, symbol ? `${symbol} ${said.text}` : said.text);
    sure.style.display = cancel.style.display = view.armed ? "" : "none";
    if (view.armed) {
      text(sure, `Yes, ${view.armed.label.toLowerCase()} ${view.armed.target}`.trimEnd());
      attr(sure, "aria-disabled", waiting); attr(cancel, "aria-disabled", waiting);
    }
  }

  const stop = follow(model, ["view"], () => { told = null; draw(); });
  return stop;
}
export default { render };
