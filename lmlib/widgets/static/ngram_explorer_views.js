// NGramExplorer: the list of next characters, the falling product and its table.

/** A token as it is shown: what cannot be seen gets a sign. */
function ngVisible(text) {
  return { " ": "␣", "\t": "⇥", "\n": "↵", "\u3000": "␣" }[text] ?? text;
}

/** The most probable next tokens, a button each; update([{ token, label, name, … }]). */
function ngNextList({ onPick }) {
  const element = nlElement("ol", { class: "ng-bars", "data-nl": "next", "aria-label": "下一个字" });
  const tokens = [];
  const row = (i) =>
    nlElement(
      "li",
      {},
      nlElement(
        "button",
        { class: "ng-bar", type: "button", "data-nl": `next-${i}`, onclick: () => onPick(tokens[i]) },
        nlElement("span", { class: "ng-bar-label" }),
        nlElement("span", { class: "ng-bar-track" }, nlElement("span", { class: "ng-bar-fill" })),
        nlElement("span", { class: "ng-bar-value", "data-nl": "next-value" }),
        nlElement("span", { class: "ng-bar-evidence", "data-nl": "next-evidence" }),
      ),
    );
  element.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...element.querySelectorAll("button:not(:disabled)")];
    buttons[buttons.indexOf(event.target) + step]?.focus();
  });
  // The buttons stay where they are, so that Enter may be pressed again and again on one of them.
  const update = (items) => {
    while (element.children.length > items.length) element.lastChild.remove();
    while (element.children.length < items.length) element.append(row(element.children.length));
    items.forEach((item, i) => {
      tokens[i] = item.token;
      const button = element.children[i].firstChild;
      const [label, track, value, evidence] = button.children;
      button.disabled = !item.name;
      button.setAttribute(
        "aria-label",
        `${item.name || item.label}，概率 ${item.value}，计数 ${item.evidence}`,
      );
      label.textContent = item.label;
      label.dataset.long = String([...item.label].length > 2);
      track.firstChild.style.width = `${100 * item.share}%`;
      value.textContent = item.value;
      evidence.textContent = item.evidence;
    });
  };
  return { element, update };
}

/** The product so far as columns that hang lower and lower, on a logarithmic axis. */
function ngFallChart() {
  const marks = nlElement("div", { class: "ng-marks", "aria-hidden": "true" });
  const drops = nlElement("div", { class: "ng-drops", "aria-hidden": "true" });
  const plot = nlElement("div", { class: "ng-plot" }, marks, drops);
  const names = nlElement("div", { class: "ng-names", "aria-hidden": "true" });
  const element = nlElement("div", { class: "ng-fall", role: "img", "data-nl": "fall" }, plot, names);
  const update = (walk, labels, summary) => {
    element.setAttribute("aria-label", `累积乘积，对数轴，每乘一个字低一截。${summary}`);
    const sums = walk.map(({ sum }) => sum / Math.LN10);
    const lowest = Math.min(-1, Math.floor(nlExtent(sums)[0] * 1.02));
    const place = (log10) => `${(100 * Math.max(log10, lowest)) / lowest}%`;
    marks.replaceChildren(
      ...ngTicks(lowest).map((exponent) => {
        const mark = nlElement("span", {}, exponent ? `10${nlSuperscript(exponent)}` : "1");
        mark.style.top = place(exponent);
        return mark;
      }),
    );
    element.dataset.crowded = String(walk.length > 20);
    drops.replaceChildren(
      ...sums.map((sum, i) => {
        const from = i ? sums[i - 1] : 0;
        const drop = nlElement("span", { class: "ng-drop" });
        const column = nlElement("span", {}, drop);
        const height = `calc(max(2px, ${place(sum)} - ${place(from)}))`;
        if (from === -Infinity) drop.hidden = true; // nothing left to fall
        Object.assign(drop.style, { top: place(from), height });
        drop.dataset.zero = String(sum === -Infinity);
        return column;
      }),
    );
    names.replaceChildren(...labels.map((label) => nlElement("span", {}, label)));
  };
  return { element, update };
}

/** One row a factor: update(rows, base), rows as `{ name, unknown, context, evidence, p, … }`. */
function ngWalkTable() {
  // Where it is narrow, style sheets lay a row out as two lines; the roles keep it a table.
  const column = (text) => nlElement("th", { scope: "col", role: "columnheader" }, text);
  const logs = [column(""), column("")];
  const columns = [column("w | h，计数"), column("P(w | h)"), logs[0], column("累积乘积"), logs[1]];
  const head = nlElement("tr", { role: "row" }, ...columns);
  const body = nlElement("tbody", { role: "rowgroup", "data-nl": "rows" });
  const table = nlElement(
    "table",
    { class: "ng-table", role: "table", "aria-label": "每个字的概率" },
    nlElement("thead", { role: "rowgroup" }, head),
    body,
  );
  const element = nlElement("div", { class: "ng-scroll" }, table);
  const write = ({ text, unknown }) => nlElement("span", unknown ? { class: "ng-unknown" } : {}, text);
  const update = (rows, base) => {
    const log = base === "bits" ? "log₂ P" : "ln P";
    logs[0].textContent = log;
    logs[1].textContent = `累积 ${log}`;
    // Only what scrolls is a stop of the keyboard; on a phone a row has two lines or three.
    const long = rows.length > 4;
    for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", "每个字的概率"]]) {
      if (long) element.setAttribute(name, value);
      else element.removeAttribute(name);
    }
    body.replaceChildren(
      ...rows.map(({ own, context, evidence, p, logP, sum }) => {
        const cells = [ngPowerText(Math.log(p)), ngLogText(logP, base), ngPowerText(sum), ngLogText(sum, base)];
        const given = nlElement("span", { class: "ng-given" }, " | ", ...context.map(write));
        const counts = nlElement("span", { class: "ng-evidence" }, evidence);
        const first = [nlElement("b", {}, write(own)), ...(context.length ? [given] : []), counts];
        return nlElement(
          "tr",
          { role: "row", "data-zero": String(p === 0) },
          nlElement("th", { scope: "row", role: "rowheader" }, ...first),
          ...cells.map((cell) => nlElement("td", { role: "cell" }, cell)),
        );
      }),
    );
  };
  return { element, update };
}

/** The line to type in. */
function ngInput({ longest, onText }) {
  const input = nlTextInput({ name: "text", className: "ng-input" });
  const caption = nlElement("span", { class: "nl-label" }, "前缀");
  const element = nlElement("label", { class: "nl-field ng-prefix" }, caption, input);
  const composing = nlOnText(input, () => onText([...input.value].slice(0, longest).join("")));
  const set = (text) => {
    if (!composing() && input.value !== text) input.value = text;
  };
  return { element, set };
}
