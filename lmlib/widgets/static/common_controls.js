// Controls, bars and the legend that all live figures share.
// A control returns { element, set(value), … }; `set` shows a value without calling back.

/** A labelled drop-down; options are [value, text] pairs and values are texts. */
function nlSelect({ name, label, options, value, onChange }) {
  const input = nlElement("select", { class: "nl-select", "data-nl": name });
  const setOptions = (pairs) =>
    input.replaceChildren(...pairs.map(([key, text]) => nlElement("option", { value: key }, text)));
  setOptions(options);
  input.value = value;
  input.addEventListener("change", () => onChange(input.value));
  const caption = nlElement("span", { class: "nl-label" }, label);
  const element = nlElement("label", { class: "nl-field" }, caption, input);
  return { element, input, setOptions, set: (next) => (input.value = next) };
}

/**
 * A labelled slider with its value beside the label. `toPosition` and `toValue` turn the value
 * into the place on the slider and back (log10 and 10 ** x give a logarithmic slider).
 */
function nlRange({
  name,
  label,
  min,
  max,
  step,
  value,
  onInput,
  format = String,
  toPosition = (x) => x,
  toValue = (x) => x,
}) {
  const output = nlElement("output", { "data-nl": `${name}-value` });
  const input = nlElement("input", { class: "nl-range", type: "range", min, max, step });
  input.dataset.nl = name;
  const show = (current) => {
    output.textContent = format(current);
    input.setAttribute("aria-valuetext", format(current));
  };
  const set = (next) => {
    input.value = String(toPosition(next));
    show(next);
  };
  set(value);
  input.addEventListener("input", () => {
    const next = toValue(Number(input.value));
    show(next);
    onInput(next);
  });
  const caption = nlElement("span", { class: "nl-label" }, nlElement("span", {}, label), output);
  return { element: nlElement("label", { class: "nl-field" }, caption, input), input, set };
}

/** A labelled checkbox; the label is a text, or a list of texts and elements. */
function nlCheckbox({ name, label, checked, onChange }) {
  const input = nlElement("input", { type: "checkbox", "data-nl": name });
  input.checked = checked;
  input.addEventListener("change", () => onChange(input.checked));
  const caption = nlElement("span", {}, ...[label].flat());
  const element = nlElement("label", { class: "nl-check" }, input, caption);
  return { element, input, set: (next) => (input.checked = next) };
}

/** A button; `label` is what a screen reader says where the text is only a sign. */
function nlButton({ name, text, label = null, onClick }) {
  const attributes = { class: "nl-button", type: "button", "data-nl": name, "aria-label": label };
  return { element: nlElement("button", { ...attributes, onclick: onClick }, text) };
}

/** A labelled row of buttons of which one is pressed; options as in nlSelect. */
function nlChoices({ name, label, options, value, onChange }) {
  const row = nlElement("div", { class: "nl-choices", "data-nl": name });
  const set = (next) => {
    for (const button of row.children) {
      button.setAttribute("aria-pressed", String(button.dataset.value === String(next)));
    }
  };
  for (const [key, text] of options) {
    const button = nlButton({ name: `${name}-${key}`, text, onClick: () => onChange(key) }).element;
    button.dataset.value = key;
    row.append(button);
  }
  set(value);
  const caption = nlElement("span", { class: "nl-label", "aria-hidden": "true" }, label);
  const group = { class: "nl-field", role: "group", "aria-label": label };
  return { element: nlElement("div", group, caption, row), buttons: row.children, set };
}

/** A line for Chinese text, which no browser corrects; `more` are further attributes. */
function nlTextInput({ name, className, more = {} }) {
  return nlElement("input", {
    ...{ class: `nl-input ${className}`, type: "text", lang: "zh-CN", "data-nl": name },
    ...{ autocomplete: "off", autocapitalize: "off", spellcheck: "false", ...more },
  });
}

/**
 * Calls `onText` when the reader has written into an input or textarea, but not while an input
 * method is composing: half-typed pinyin is not the reader's text. Returns () => is it composing?
 */
function nlOnText(field, onText) {
  let composing = false;
  field.addEventListener("compositionstart", () => (composing = true));
  field.addEventListener("compositionend", () => {
    composing = false;
    onText();
  });
  field.addEventListener("input", (event) => {
    if (!composing && !event.isComposing) onText();
  });
  return () => composing;
}

/**
 * ← and → walk: move(−1 or 1), unless the focused control needs those keys itself, one that
 * matches `spare`. A click anywhere gives the figure the focus, so that the keys work from then on.
 */
function nlWalkByKeys({ root, scope, spare, move }) {
  root.tabIndex = -1;
  scope.listen(root, "keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    if (event.target.closest(spare)) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    move(step);
  });
}

// ---------------------------------------------------------------- bars

/** A list of bars; update([{ label, share (0–1), text, pointed }]) redraws it. */
function nlBars({ name, label }) {
  const element = nlElement("ul", { class: "nl-bars", "data-nl": name, "aria-label": label });
  const update = (items) => {
    while (element.children.length > items.length) element.lastChild.remove();
    while (element.children.length < items.length) {
      const fill = nlElement("span", { class: "nl-bar-fill" });
      element.append(
        nlElement(
          "li",
          {},
          nlElement("span", { class: "nl-bar-label" }),
          nlElement("span", { class: "nl-bar-track", "aria-hidden": "true" }, fill),
          nlElement("span", { class: "nl-bar-value", "data-nl": `${name}-value` }),
        ),
      );
    }
    items.forEach((item, i) => {
      const row = element.children[i];
      row.dataset.pointed = String(Boolean(item.pointed));
      row.children[0].textContent = item.label;
      row.children[1].firstChild.style.width = `${100 * Math.max(0, Math.min(1, item.share))}%`;
      row.children[2].textContent = item.text;
    });
  };
  return { element, update };
}

// ---------------------------------------------------------------- legend

/** A strip of the colour scale; update({ scale, low, high, shade, ticks, format, dark }). */
function nlLegend({ name, label }) {
  const strip = nlElement("div", { class: "nl-legend-strip" });
  const marks = nlElement("div", { class: "nl-legend-ticks" });
  const caption = nlElement("span", { class: "nl-legend-label" }, label);
  const body = nlElement("div", {}, strip, marks);
  const element = nlElement("div", { class: "nl-legend", "data-nl": name }, caption, body);
  const update = ({ scale, low, high, ticks, dark, shade = (x) => x, format = String }) => {
    const stops = nlColorTable(scale, dark).filter((_, i) => i % 15 === 0);
    strip.style.background = `linear-gradient(to right, ${stops.map((c) => `rgb(${c.join(",")})`)})`;
    const share = (tick) => (100 * (shade(tick) - shade(low))) / (shade(high) - shade(low) || 1);
    marks.replaceChildren(
      ...ticks.map((tick) => {
        const mark = nlElement("span", {}, format(tick));
        mark.style.left = `${share(tick)}%`;
        return mark;
      }),
    );
  };
  return { element, update };
}
