// A Bokeh chart whose data comes from one trait and goes one way: Python -> source.data.
function load(code) {
  if (!window.Bokeh) document.head.append(make("script", { text: code }));  // runs at once
  return window.Bokeh;
}

function columns(view) {
  const gaps = (lists) => lists.map((list) => Float64Array.from(list, (value) => value ?? NaN));
  const { name, colour, dash, at, cpu, memory } = view.columns;
  // Bokeh writes every time as UTC; the reader's clock is the one that the feed uses.
  const shift = new Date().getTimezoneOffset() * 60_000;
  return { name, colour, dash, at: gaps(at.map((list) => list.map((t) => t - shift))), cpu: gaps(cpu), memory: gaps(memory) };
}

/** Give the figures the colours of the theme; Bokeh draws on a canvas, which no style sheet reaches. */
function paint(document_, el) {
  const style = getComputedStyle(el);
  const ink = style.getPropertyValue("--sl-ink").trim() || "#333", line = style.getPropertyValue("--sl-line").trim() || "#ddd";
  for (const model of document_._all_models.values()) {
    if (model.type?.endsWith("Axis")) model.setv({ major_label_text_color: ink, axis_line_color: line, major_tick_line_color: line, minor_tick_line_color: null });
    if (model.type === "Grid") model.setv({ grid_line_color: line });
    if (model.type === "Title") model.setv({ text_color: ink, text_font_style: "normal", text_font_size: "12px" });
    if (model.type === "Legend") model.setv({ label_text_color: ink, label_text_font_size: "11px" });
  }
}

async function render({ model, el }) {
  const ui = frame(el, "series", "The last minutes");
  const target = make("div", { class: "sl-chart", role: "img" });
  ui.body.append(target);
  const views = await load(model.get("bokeh")).embed.embed_item(model.get("chart"), target);
  const root = [...views][0].model.document;
  const source = root.get_model_by_name("samples");
  const repaint = () => paint(root, ui.root);
  const themes = new MutationObserver(repaint);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  repaint();
  const stop = follow(model, ["view"], () => {
    const view = model.get("view");
    ui.set(view);
    attr(target, "aria-label", view.text);
    source.data = columns(view);
    target.dataset.samples = Math.max(0, ...view.columns.at.map((list) => list.length));
  });
  return () => { stop(); themes.disconnect(); root.clear(); };
}
export default { render };
