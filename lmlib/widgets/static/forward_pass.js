// ForwardPass: the figure. Left the network, right the current tensor; three traits are
// shared with Python: `index` (step), `head`, `variant` (for example before and after training).
// needs: model

const FP_NARROW = 640; // px of figure width below which network and tensor are stacked

function fpPassOf(model) {
  const fields = ["steps", "tensors", "stride", "variants"];
  const pass = Object.fromEntries(fields.map((field) => [field, model.get(field)]));
  const data = model.get("data");
  return { ...pass, data: data?.byteLength ? nlFloat16(data) : new Float64Array(0) };
}

// The drop-down of all steps, grouped by box.
function fpStepSelect(boxes, steps, onPick) {
  const select = nlElement("select", {
    class: "nl-select fp-select",
    "data-nl": "step",
    "aria-label": "选一步",
    onchange: () => onPick(Number(select.value)),
  });
  for (const box of boxes) {
    const name = box.layer ? `${box.layer} · ${box.label}` : box.label;
    const group = nlElement("optgroup", { label: name });
    steps.forEach((step, index) => {
      if (step.box !== box.id) return;
      group.append(nlElement("option", { value: index }, `${index + 1}. ${step.title}`));
    });
    select.append(group);
  }
  return select;
}

// A formula as elements, its variables in italics, its indices low and its powers high.
function fpTypeset(text) {
  const tags = { variable: "i", sub: "sub", sup: "sup" };
  return fpFormula(text).map(({ kind, text: piece }) =>
    kind === "text" ? piece : nlElement(tags[kind], {}, piece),
  );
}

// "(1, 8, 4, 64)" and, under each number, what that axis counts.
function fpShape(step) {
  const comma = step.shape.length === 1 ? "," : ""; // as Python writes a tuple of one
  const chips = step.shape.map((extent, axis) =>
    nlElement(
      "li",
      { class: "fp-axis" },
      nlElement("b", {}, String(extent)),
      nlElement("span", {}, step.axes[axis]),
    ),
  );
  return [
    nlElement(
      "code",
      { class: "fp-shape-text", "data-nl": "shape" },
      `(${step.shape.join(", ")}${comma})`,
    ),
    nlElement("ul", { class: "fp-axes", "aria-label": "每一维的含义" }, ...chips),
  ];
}

function fpPanel(steps, go) {
  const part = (tag, name, attributes = {}) =>
    nlElement(tag, { class: `fp-${name}`, "data-nl": name, ...attributes });
  const siblings = part("div", "siblings", { role: "group", "aria-label": "这个方框里的各步" });
  const place = part("p", "place");
  const title = part("p", "step-title", { "aria-live": "polite" });
  const origin = part("span", "origin");
  const formula = part("p", "formula");
  const shape = part("div", "shape-row");
  const body = part("div", "view");
  const inputs = part("div", "inputs", { role: "group", "aria-label": "来自" });
  const feeds = part("div", "feeds", { role: "group", "aria-label": "去往" });
  const element = nlElement(
    "div",
    { class: "fp-panel" },
    siblings,
    nlElement("div", { class: "fp-heading" }, nlElement("div", {}, place, title), origin),
    formula,
    shape,
    body,
    nlElement("div", { class: "fp-links" }, inputs, feeds),
  );
  const indexOf = new Map(steps.map((step, index) => [step.name, index]));

  function links(target, caption, names, nothing) {
    const known = names.filter((name) => indexOf.has(name));
    target.replaceChildren(
      nlElement("span", { class: "nl-label" }, caption),
      ...(known.length ? [] : [nlElement("span", { class: "nl-note" }, nothing)]),
      ...known.map((name) => {
        const step = steps[indexOf.get(name)];
        return nlElement(
          "button",
          {
            class: "fp-link",
            type: "button",
            "data-step": name,
            onclick: () => go(indexOf.get(name)),
          },
          `${step.title} `,
          nlElement("span", { class: "fp-symbol" }, ...fpTypeset(step.symbol)),
        );
      }),
    );
  }

  function show(step) {
    const family = steps.filter((other) => other.box === step.box);
    // Kept while the box stays, so that the focused button does not vanish under the reader.
    if (siblings.dataset.box !== step.box) {
      siblings.dataset.box = step.box;
      siblings.replaceChildren(
        ...family.map((other) =>
          nlElement(
            "button",
            {
              class: "fp-sibling",
              type: "button",
              "data-step": other.name,
              "aria-label": other.title,
              title: other.title,
              onclick: () => go(indexOf.get(other.name)),
            },
            ...fpTypeset(other.symbol),
          ),
        ),
      );
    }
    siblings.hidden = family.length < 2;
    for (const button of siblings.children) {
      button.setAttribute("aria-pressed", String(button.dataset.step === step.name));
    }
    place.textContent = step.place;
    title.textContent = step.title;
    const given = { shipped: "模型给出", literal: "句子给出" }[step.op.kind];
    origin.textContent = given ?? "就在这一页里算出";
    origin.dataset.given = String(Boolean(given));
    formula.replaceChildren(...fpTypeset(step.formula));
    formula.hidden = !step.formula;
    shape.replaceChildren(...fpShape(step));
    links(inputs, "来自", step.inputs, "这里是起点");
    links(feeds, "去往", step.feeds, "这里是终点");
  }
  return { element, body, show };
}

/** Controls, network and tensor of one walk, { pass, boxes }: { elements, redraw, destroy }. */
function fpWalk({ model, frame, vocabulary, pass, boxes }) {
  const { root } = frame;
  const scope = nlScope();
  const { steps, variants } = pass;
  const index = () => nlClampIndex(model.get("index"), steps.length);
  const put = (trait, value) => nlPut(model, { [trait]: value });
  const go = (to) => put("index", nlClampIndex(to, steps.length));
  const jump = (id) => go(steps.findIndex((step) => step.box === id));

  // Controls over both columns.
  const toggle = nlChoices({
    name: "variant",
    label: "哪一套权重",
    options: variants.map((name, v) => [v, name]),
    value: model.get("variant"),
    onChange: (v) => put("variant", Number(v)),
  });
  toggle.element.hidden = variants.length < 2;
  const stepButton = (name, text, label, by) =>
    nlButton({ name, text, label, onClick: () => go(index() + by) });
  const previous = stepButton("previous", "‹", "上一步", -1);
  const next = stepButton("next", "›", "下一步", 1);
  const select = fpStepSelect(boxes, steps, go);
  const progress = nlElement("span", { class: "fp-progress", "data-nl": "progress" });
  const bar = nlElement("span", { class: "fp-bar", "aria-hidden": "true" });
  const nav = nlElement("div", { class: "fp-nav" }, previous.element, select, next.element);
  const panel = fpPanel(steps, go);
  panel.element.prepend(nav, nlElement("div", { class: "fp-way" }, bar, progress));
  const map = nlElement("div", { class: "fp-map" });
  const elements = [
    nlElement("div", { class: "nl-controls" }, toggle.element),
    nlElement("div", { class: "fp-body" }, map, panel.element),
  ];

  let diagram = null;
  const view = fpView(panel.body, {
    pass,
    vocabulary,
    isDark: frame.isDark,
    onHead: (head) => put("head", head),
  });
  const shown = () => ({
    step: steps[index()],
    variant: nlClampIndex(model.get("variant"), variants.length),
  });
  const redraw = () => view.show({ ...shown(), head: model.get("head"), fresh: true });

  const drawMap = (narrow) => {
    diagram = fpDiagram(boxes, steps, narrow ? 33 : 41, jump);
    map.replaceChildren(diagram.element);
    diagram.mark(shown().step.box);
  };
  const update = nlCoalesce(() => {
    const { step, variant } = shown();
    const at = index();
    select.value = String(at);
    previous.element.disabled = at === 0;
    next.element.disabled = at === steps.length - 1;
    progress.textContent = `第 ${at + 1} 步，共 ${steps.length} 步`;
    bar.style.setProperty("--fp-share", String((at + 1) / steps.length));
    toggle.set(variant);
    diagram?.mark(step.box);
    panel.show(step);
    view.show({ step, variant, head: model.get("head") });
  });
  scope.follow(model, ["index", "variant", "head"], update);

  let narrow = null;
  const observer = new ResizeObserver(() => {
    const now = root.clientWidth < FP_NARROW;
    if (now === narrow) return;
    narrow = now;
    root.classList.toggle("fp-narrow", now);
    drawMap(now);
  });
  observer.observe(root);
  scope.add(() => observer.disconnect());
  scope.add(() => view.destroy());

  const spare = "input, select, canvas";
  nlWalkByKeys({ root, scope, spare, move: (step) => go(index() + step) });
  update();
  return { elements, redraw, destroy: () => scope.run() };
}

function fpRender({ model, el }) {
  let walk = null;
  const frame = nlFigure({ model, el, onTheme: () => walk?.redraw() });
  const { root, scope } = frame;
  const state = fpPassOf(model);
  const complaint = fpComplaint(state);
  if (complaint) {
    const attributes = { class: "fp-complaint", role: "alert", "data-nl": "error" };
    root.append(nlElement("p", attributes, complaint));
    return frame.cleanup;
  }

  const vocabulary = model.get("vocabulary").split("\n");
  const traced = { pass: fpPass(state), steps: state.steps, boxes: model.get("boxes") };
  const keys = "点网络图里的方框可以直接跳过去；键盘 ← → 走一步。";
  const hint = nlElement("p", { class: "nl-note fp-keys" }, keys);
  root.append(hint);
  const show = ({ pass, boxes }) => {
    walk?.elements.forEach((element) => element.remove());
    walk?.destroy();
    walk = fpWalk({ model, frame, vocabulary, pass, boxes });
    hint.before(...walk.elements);
  };
  if (model.get("model")) {
    const onWalk = (typed) => show(typed ?? traced);
    hint.before(fpTyping({ model, traced, vocabulary, onWalk }).element);
  }
  show(traced);
  scope.add(() => walk.destroy());
  return frame.cleanup;
}

export default { render: fpRender };
