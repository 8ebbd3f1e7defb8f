// The health of the cluster with its advice, and the alerts, keyed by their ids, each with the button that says: I know.
function render({ model, el }) {
  const ui = frame(el, "alerts", "Alerts");
  const health = make("span", { class: "sl-summary" });
  ui.root.querySelector(".sl-title").after(health);
  const advice = make("ul", { class: "sl-advice", "aria-label": "Advice" });
  const list = make("ul", { class: "sl-wrong", "aria-label": "Alerts" });
  const empty = make("div", { class: "sl-none", text: "None is firing." });
  ui.body.append(advice, list, empty);
  const kept = new Map();

  function create(item) {
    const button = make("button", { text: "Acknowledge", "aria-label": `Acknowledge ${item.key}`,
      title: "Says that you know of it; it goes on while its cause lasts", onclick: () => {
      if (button.getAttribute("aria-disabled") === "true") return;
      attr(button, "aria-disabled", true);
      model.send({ press: "acknowledge", target: item.key, turn: 0, choice: "", answer: "" });
      setTimeout(() => attr(button, "aria-disabled", false), 3000);  // one that failed can be tried again
    } });
    return make("li", { "data-key": item.key },
      make("span", { class: "sl-symbol", "aria-hidden": "true" }),
      make("span", { class: "sl-what" }), make("span", { class: "sl-since" }), button);
  }

  function update(line, item) {
    text(line.querySelector(".sl-symbol"), item.symbol);
    attr(line.querySelector(".sl-symbol"), "class", `sl-symbol sl-${item.tone}`);
    text(line.querySelector(".sl-what"), `${item.word}: ${item.what}`);
    text(line.querySelector(".sl-since"), item.known || `since ${item.since}`);
    line.querySelector("button").style.display = item.known ? "none" : "";
    attr(line, "data-known", Boolean(item.known));
    attr(line, "title", item.key);
  }

  return follow(model, ["view"], () => {
    const view = model.get("view");
    ui.set(view);
    text(health, `health ${view.score} of 100`);
    attr(health, "class", `sl-summary sl-${view.tone}`);
    attr(health, "title", view.why);
    advice.replaceChildren(...view.advice.map((line) => make("li", { text: line })));
    advice.style.display = view.advice.length ? "" : "none";
    empty.style.display = view.rows.length ? "none" : "";
    list.style.display = view.rows.length ? "" : "none";
    keyed(list, view.rows, kept, { create, update });
  });
}
export default { render };
