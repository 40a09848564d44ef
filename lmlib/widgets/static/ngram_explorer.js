// NGramExplorer: type a prefix; what may follow, and how its probability is multiplied together.

const NG_SHOWN = 10; // bars

/** The settings of the model as plain values, within what the counts allow. */
function ngState(model, shape) {
  const order = Math.max(1, Math.min(shape.order, Math.round(model.get("order"))));
  return {
    text: [...model.get("text")].slice(0, shape.longest),
    base: model.get("base"),
    withEnd: model.get("with_end"),
    setting: {
      order,
      smoothing: model.get("smoothing"),
      k: model.get("k"),
      discounts: model.get("discounts")[order - 1],
    },
  };
}

function ngVocabulary(model, { vocab_size: size, unk_id: unknown }) {
  const tokens = [...model.get("vocabulary")];
  const specials = model.get("specials");
  for (const [id, token] of specials) tokens[id] = token;
  if (tokens.length !== size) throw new Error("ngram_explorer: vocabulary is damaged");
  const special = new Set(specials.map(([id]) => id));
  const ids = new Map(tokens.map((token, id) => [token, id]));
  return {
    tokens,
    encode: (characters) => characters.map((character) => ids.get(character) ?? unknown),
    writable: (id) => !special.has(id),
  };
}

function render({ model, el }) {
  const { root, scope, cleanup } = nlFigure({ model, el });
  const shape = model.get("shape");
  const { bos_id: bos, eos_id: eos, unk_id: unk, vocab_size: vocabSize } = shape;
  const tables = ngUnpack(model.get("counts"), shape);
  const vocabulary = ngVocabulary(model, shape);
  let state = ngState(model, shape);
  let p = null; // of the next token
  let drewEnd = false;

  const change = (traits) => nlPut(model, traits);
  const drawable = (id) => id === eos || vocabulary.writable(id);
  const append = (id) => {
    if (id === eos) change({ with_end: true });
    else if (vocabulary.writable(id) && state.text.length < shape.longest) {
      change({ text: [...state.text, vocabulary.tokens[id]].join("") });
    }
  };

  // What is typed, and the model that reads it
  const input = ngInput({ longest: shape.longest, onText: (text) => change({ text }) });
  const erase = nlButton({
    name: "erase",
    text: "⌫",
    label: "删掉最后一个字",
    onClick: () =>
      change(state.withEnd ? { with_end: false } : { text: state.text.slice(0, -1).join("") }),
  });
  const clear = nlButton({
    name: "clear",
    text: "清空",
    onClick: () => change({ text: "", with_end: false }),
  });
  const sample = nlButton({
    name: "sample",
    text: "抽一个字",
    label: "按概率抽一个字，接在后面",
    onClick: () => {
      const { value, next } = ngRandom(model.get("seed"));
      const id = ngDraw(p, drawable, value);
      drewEnd = id === eos;
      change({ seed: next });
      append(id);
    },
  });
  const order = nlChoices({
    name: "order",
    label: "阶数 n",
    options: Array.from({ length: shape.order }, (_, i) => [i + 1, String(i + 1)]),
    value: state.setting.order,
    onChange: (n) => change({ order: Number(n) }),
  });
  const smoothing = nlChoices({
    name: "smoothing",
    label: "平滑",
    options: Object.entries(NG_NAMES),
    value: state.setting.smoothing,
    onChange: (name) => change({ smoothing: name }),
  });
  const added = nlRange({
    name: "k",
    label: "k",
    min: -4,
    max: 1,
    step: 0.1,
    value: state.setting.k,
    format: ngShort,
    toPosition: Math.log10,
    toValue: (position) => Number((10 ** position).toPrecision(2)),
    onInput: (k) => change({ k }),
  });
  const base = nlChoices({
    name: "base",
    label: "对数",
    options: [
      ["nats", "奈特"],
      ["bits", "比特"],
    ],
    value: state.base,
    onChange: (unit) => change({ base: unit }),
  });
  const withEnd = nlCheckbox({
    name: "with-end",
    label: `算上结尾 ${NG_END}`,
    checked: state.withEnd,
    onChange: (checked) => change({ with_end: checked }),
  });

  const part = (tag, name, classes) => nlElement(tag, { class: classes, "data-nl": name });
  const buttons = [erase.element, clear.element, sample.element];
  const settings = [order, smoothing, added, base, withEnd].map(({ element }) => element);
  const formula = part("p", "formula", "nl-formula");
  const heading = part("p", "next-title", "ng-heading");
  const evidence = part("p", "evidence", "nl-note");
  const list = ngNextList({ onPick: append });
  const rest = part("p", "rest", "nl-note");
  const chart = ngFallChart();
  const table = ngWalkTable();
  const summary = part("p", "summary", "ng-summary");
  summary.setAttribute("aria-live", "polite");
  const notes = part("div", "notes", "ng-notes");
  root.append(
    nlElement("div", { class: "nl-controls ng-typing" }, input.element, ...buttons),
    nlElement("div", { class: "nl-controls" }, ...settings),
    formula,
    nlElement(
      "div",
      { class: "ng-body" },
      nlElement("div", { class: "ng-next" }, heading, evidence, list.element, rest),
      nlElement(
        "div",
        { class: "ng-product" },
        nlElement("p", { class: "ng-heading" }, "一个字一个字乘起来"),
        ...[summary, notes, chart.element, table.element],
      ),
    ),
    nlElement(
      "p",
      { class: "nl-note ng-legend" },
      `${NG_START} 开头，${NG_END} 结尾。点一条就把它接到后面；条长与第一名相比。`,
    ),
  );

  /** Token at a place of the text; in front of it stand BOS, behind it EOS. */
  const shown = (ids, i) => {
    if (i < 0) return { text: NG_START, unknown: false };
    if (i >= state.text.length) return { text: NG_END, unknown: false };
    return { text: ngVisible(state.text[i]), unknown: ids[i] === unk };
  };
  const contextOf = (ids, i) =>
    Array.from({ length: state.setting.order - 1 }, (_, j) =>
      shown(ids, i - state.setting.order + 1 + j),
    );
  const texts = (tokens) => tokens.map(({ text }) => text);

  function showNext(ids) {
    const { setting } = state;
    const h = ngHistory(tables, setting.order, ids, ids.length);
    const context = texts(contextOf(ids, ids.length));
    p = ngDistribution(tables, setting, h);
    const best = ngTop(p, vocabulary.writable, NG_SHOWN);
    const label = (id) =>
      id === eos ? NG_END : id === bos ? NG_START : ngVisible(vocabulary.tokens[id]);
    heading.replaceChildren(
      ...(context.length
        ? ["在 ", nlElement("b", {}, context.join("")), " 后面，下一个字是："]
        : ["不看前文，下一个字是："]),
    );
    evidence.textContent = ngNextText(ngEvidence(tables, setting, h), setting, context);
    const full = state.text.length >= shape.longest;
    list.update(
      best.map((id) => ({
        token: id,
        label: label(id),
        name: id === eos ? "到这里结束" : vocabulary.writable(id) && !full ? `接上「${label(id)}」` : "",
        share: p[id] / p[best[0]],
        value: ngPowerText(Math.log(p[id])),
        evidence: ngEvidenceText(ngEvidence(tables, setting, h, id), setting, context),
      })),
    );
    rest.textContent = ngRestText(p, best, state.base);
  }

  function showProduct(ids) {
    const { setting } = state;
    const walk = ngWalk(tables, setting, state.withEnd ? [...ids, eos] : ids);
    const rows = walk.map((step, i) => ({
      ...step,
      own: shown(ids, i),
      context: contextOf(ids, i),
      counts: ngEvidence(tables, setting, step.h, step.token),
    }));
    const names = texts(rows.map(({ own }) => own));
    const text = ngSummaryText(walk, names, state.base);
    summary.textContent = text;
    const unknown = state.text.filter((_, i) => ids[i] === unk).map(ngVisible);
    const zero = rows.find((row) => row.p === 0);
    notes.replaceChildren(
      ...[
        ngUnknownText(unknown),
        zero && ngZeroText(zero.own.text, zero.counts, setting, texts(zero.context)),
        state.text.length >= shape.longest && `最多 ${shape.longest} 个字。`,
        drewEnd && state.withEnd && `抽到了结尾 ${NG_END}：想接着抽，先取消「算上结尾」。`,
      ]
        .filter(Boolean)
        .map((sentence) => nlElement("p", {}, sentence)),
    );
    chart.element.hidden = table.element.hidden = walk.length === 0;
    chart.update(walk, names, text);
    table.update(
      rows.map((row) => ({
        ...row,
        evidence: ngEvidenceText(row.counts, setting, texts(row.context)),
      })),
      state.base,
    );
  }

  const update = nlCoalesce(() => {
    state = ngState(model, shape);
    const { setting } = state;
    input.set(state.text.join(""));
    order.set(setting.order);
    smoothing.set(setting.smoothing);
    added.set(setting.k);
    added.element.hidden = setting.smoothing !== "add_k";
    base.set(state.base);
    withEnd.set(state.withEnd);
    erase.element.disabled = state.text.length === 0 && !state.withEnd;
    clear.element.disabled = erase.element.disabled;
    sample.element.disabled = state.withEnd || state.text.length >= shape.longest;
    formula.textContent = ngFormulaText(setting, vocabSize);
    const ids = vocabulary.encode(state.text);
    showNext(ids);
    showProduct(ids);
  });
  scope.follow(model, ["text", "order", "smoothing", "k", "base", "with_end"], update);
  update();
  return cleanup;
}

export default { render };
