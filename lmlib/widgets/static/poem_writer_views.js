// PoemWriter: what the reader sets, the poem, and the line of Python.

const PW_TOP_KS = [1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 75, 100, 200, 500, 1000, 0]; // 0: no limit

/** Where a top-k stands on its slider: at the nearest step; 0, no limit, at the end. */
export function pwTopKPlace(k) {
  if (!k) return PW_TOP_KS.length - 1;
  const away = (step) => (step ? Math.abs(Math.log(step / k)) : Infinity);
  return PW_TOP_KS.reduce((best, step, i) => (away(step) < away(PW_TOP_KS[best]) ? i : best), 0);
}

/** Form, beginning or acrostic, and the buttons; a form, so that Enter writes. */
function pwForm({ forms, onForm, onEdit, onAct }) {
  let kind = "beginning";
  let form = "";
  const form_ = nlChoices({
    name: "form",
    label: "体裁",
    options: Object.keys(forms).map((name) => [name, name]),
    value: "",
    onChange: onForm,
  });
  const kinds = nlChoices({
    name: "kind",
    label: "你给",
    options: [["beginning", "开头"], ["acrostic", "藏头"]],
    value: kind,
    onChange: (value) => {
      setKind(value);
      input.focus();
      onEdit();
    },
  });
  const input = nlTextInput({ name: "text", className: "pw-input", more: { enterkeyhint: "go" } });
  const counter = nlElement("output", { "data-nl": "length" });
  const caption = nlElement("span", {});
  const count = () => {
    if (composing()) return; // the model may arrive while pinyin stands half-typed in the field
    const [lines, length] = forms[form];
    const most = kind === "acrostic" ? lines : lines * (length + 1) - 1;
    const written = [...input.value.trim()].length;
    counter.textContent = `${written} / ${most} 个字`;
    input.setAttribute("aria-invalid", String(written > most));
  };
  const setKind = (value) => {
    kind = value;
    kinds.set(kind);
    caption.textContent = kind === "acrostic" ? "每句的头一个字" : "开头几个字，或空着";
    input.placeholder = kind === "acrostic" ? "比如：春夏秋冬" : "比如：床前明月光";
    count();
  };
  const composing = nlOnText(input, () => {
    count();
    onEdit();
  });
  const button = (name, text) => nlButton({ name, text, onClick: () => onAct(name) }).element;
  const write = nlElement("button", { class: "nl-button pw-go", type: "submit", "data-nl": "write" }, "写");
  const toggle = button("toggle", "暂停");
  const plays = nlElement(
    "div",
    { class: "nl-choices pw-plays" },
    ...[write, toggle, button("one", "写一个字"), button("finish", "一下写完")],
  );
  const label = nlElement("span", { class: "nl-label" }, caption, counter);
  const field = nlElement("label", { class: "nl-field pw-field" }, label, input);
  const element = nlElement(
    "form",
    {
      class: "pw-form",
      onsubmit: (event) => {
        event.preventDefault();
        if (!composing()) onAct("write");
      },
    },
    nlElement("div", { class: "nl-controls pw-row" }, form_.element, kinds.element, field),
    plays,
  );
  return {
    element,
    setForm(name) {
      form = name;
      form_.set(name);
      setKind(kind);
    },
    /** Shows what is given, unless somebody is typing. */
    setGiven({ beginning, acrostic }) {
      if (composing()) return;
      const text = acrostic || beginning;
      if (input.value.trim() !== text) input.value = text;
      setKind(text ? (acrostic ? "acrostic" : "beginning") : kind);
    },
    setPhase(phase) {
      toggle.disabled = phase !== "running" && phase !== "paused";
      toggle.textContent = phase === "paused" ? "接着写" : "暂停";
    },
    given() {
      const text = input.value.trim();
      return kind === "acrostic" ? { beginning: "", acrostic: text } : { beginning: text, acrostic: "" };
    },
  };
}

/** The sliders of the filters, and the seed; onChange({ trait: value }). */
function pwKnobs({ onChange }) {
  const slider = (trait, label, options) =>
    nlRange({ name: trait, label, value: 1, onInput: (value) => onChange({ [trait]: value }), ...options });
  const temperature = slider("temperature", "温度", { min: 0.1, max: 2, step: 0.1 });
  const topK = slider("top_k", "top-k：留几个", {
    ...{ min: 0, max: PW_TOP_KS.length - 1, step: 1 },
    ...{ toPosition: pwTopKPlace, toValue: (place) => PW_TOP_KS[place] },
    format: (k) => (k ? String(k) : "不限"),
  });
  const topP = slider("top_p", "top-p：概率留多少", {
    ...{ min: 0.05, max: 1, step: 0.05 },
    format: (p) => (p < 1 ? String(p) : "不限"),
  });
  const seed = nlTextInput({ name: "seed", className: "pw-seed", more: { inputmode: "numeric" } });
  let shown = null; // the last seed that was one
  const read = () => pwSeed(seed.value);
  const check = () => seed.setAttribute("aria-invalid", String(Number.isNaN(read())));
  const setSeed = (value) => {
    shown = value;
    if (read() !== value) seed.value = String(value);
    check();
  };
  nlOnText(seed, () => {
    check();
    onChange(Number.isNaN(read()) ? {} : { seed: read() });
  });
  const next = nlButton({
    name: "next-seed",
    text: "换一个",
    label: "换一个种子",
    onClick: () => onChange({ seed: Number.isNaN(read()) ? 0 : (read() + 1) % (PW_LARGEST_SEED + 1) }),
  });
  const caption = nlElement("label", { class: "nl-field" }, nlElement("span", { class: "nl-label" }, "随机种子"), seed);
  const element = nlElement(
    "div",
    { class: "nl-controls pw-knobs" },
    ...[temperature, topK, topP].map((knob) => knob.element),
    nlElement("div", { class: "pw-seeds" }, caption, next.element),
  );
  return {
    element,
    seed: read,
    set(settings) {
      temperature.set(settings.temperature);
      topK.set(settings.top_k);
      topP.set(settings.top_p);
      if (settings.seed !== shown) setSeed(settings.seed); // else what is typed may be no seed yet
    },
    setSeed,
  };
}

/**
 * The poem as buttons, line by line, each shaded by how much the chosen step looked at it;
 * update({ names, steps, form, lines, shown, selected, weights or null, dark }). Arrow keys, Home
 * and End walk.
 */
function pwPoem({ onPoint, onSelect }) {
  const opening = ["开头", ""].map(() => nlElement("span", { class: "pw-char pw-opening" }));
  const chips = nlElement("div", { class: "pw-line pw-openings", "aria-hidden": "true" }, ...opening);
  const box = nlElement("div", { class: "pw-lines" });
  const element = nlElement(
    "div",
    { class: "pw-poem", role: "group", "aria-label": "诗，用方向键一个字一个字地走", "data-nl": "poem" },
    chips,
    box,
  );
  const buttons = [];
  let lines = [];
  const button = (i) =>
    nlElement("button", {
      class: "pw-char",
      type: "button",
      "data-nl": `token-${i}`,
      onclick: () => onSelect(i),
      ...nlPointed(i, onPoint),
    });
  const beside = (at, by) => {
    const row = lines.findIndex((line) => line.includes(at));
    const to = lines[row + by];
    return to ? to[Math.min(lines[row].indexOf(at), to.length - 1)] : at;
  };
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const at = buttons.indexOf(event.target.closest("button"));
    if (at < 0) return;
    const last = buttons.length - 1;
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last };
    const to = { ...moves, ArrowUp: beside(at, -1), ArrowDown: beside(at, 1) }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next = Math.max(0, Math.min(last, to));
    onSelect(next);
    buttons[next].focus();
  });
  const shade = (node, weight, dark) => {
    const color = weight === null ? null : nlWeightColor(weight, dark);
    node.style.background = color ? `rgb(${color.join(",")})` : "";
    node.style.color = color ? nlInkOn(color) : "";
  };
  const place = (count) => {
    // A line begins anew only where tokens came or went: buttons that stay keep the focus.
    while (buttons.length > count) buttons.pop().remove();
    while (buttons.length < count) buttons.push(button(buttons.length));
    while (box.children.length > lines.length) box.lastChild.remove();
    while (box.children.length < lines.length) {
      const counter = nlElement("span", { class: "pw-count" });
      box.append(nlElement("div", { class: "pw-line" }, counter));
    }
    lines.forEach((line, row) => {
      const counter = box.children[row].lastChild;
      line.forEach((i, column) => {
        const there = box.children[row].children[column];
        if (there !== buttons[i]) box.children[row].insertBefore(buttons[i], there ?? counter);
      });
    });
  };
  const update = ({ names, steps, form, measure, shown, selected, weights, dark }) => {
    lines = pwLines(names);
    const end = names.indexOf(PW_END);
    const texts = lines;
    if (end >= 0) lines = [...lines.slice(0, -1), [...(lines[lines.length - 1] ?? []), end]];
    element.style.setProperty("--pw-lines", measure[0]);
    opening.forEach((node, i) => {
      node.textContent = ["开头", form][i];
      shade(node, weights ? weights[i] : null, dark);
    });
    place(names.length);
    steps.forEach((step, i) => {
      const node = buttons[i];
      nlSay(node, step.name);
      shade(node, weights && i + 2 < weights.length ? weights[i + 2] : null, dark);
      node.setAttribute("aria-label", pwTokenLabel(step, i));
      node.setAttribute("aria-pressed", String(i === selected));
      node.dataset.shown = String(i === shown);
      node.dataset.given = String(step.given);
      node.dataset.end = String(step.name === PW_END);
      node.tabIndex = i === selected ? 0 : -1;
    });
    const [count, length] = measure;
    texts.forEach((line, row) => {
      const found = pwLineLength(names, line);
      const open = row === texts.length - 1 && !PW_LINE_ENDS.includes(names[line[line.length - 1]]);
      const right = found === length && row < count;
      const counter = box.children[row].lastChild;
      counter.textContent = open && end < 0 ? "" : `${found} 字${right ? "" : " ✗"}`;
      counter.dataset.right = String(right);
    });
  };
  return { element, update };
}

/** The line of Python that writes the same poem, and a button that copies it. */
function pwCode() {
  const code = nlElement("code", { "data-nl": "python" });
  const pre = nlElement("pre", { class: "pw-code", tabindex: 0, "aria-label": "写出同一首诗的 Python" }, code);
  const done = nlElement("span", { class: "nl-note", role: "status", "data-nl": "copied" });
  const select = () => {
    const range = document.createRange();
    range.selectNodeContents(code);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  const copy = nlButton({
    name: "copy",
    text: "复制",
    label: "复制这两行 Python",
    onClick: async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        done.textContent = "已复制。";
      } catch {
        select(); // where a page may not write to the clipboard
        done.textContent = "已选中，按 Ctrl+C（⌘C）复制。";
      }
    },
  });
  const caption = nlElement("span", {}, "同一首诗，用 Python 写：");
  const head = nlElement("div", { class: "pw-code-head" }, caption, copy.element, done);
  const element = nlElement("div", { class: "pw-python" }, head, pre);
  const update = (text) => {
    if (code.textContent === text) return;
    code.textContent = text;
    done.textContent = "";
  };
  return { element, update };
}
