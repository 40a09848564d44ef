// The attention heatmap: softmax(Q Kᵀ / √d_k / T + mask), recomputed here at every change.

/** Q Kᵀ of one head: `query` (nQ × d) and `key` (nK × d), flat → Float64Array of nQ × nK. */
export function dotProducts(query, key, nQ, nK, d) {
  const products = new Float64Array(nQ * nK);
  for (let i = 0; i < nQ; i++) {
    for (let j = 0; j < nK; j++) {
      let sum = 0;
      for (let k = 0; k < d; k++) sum += query[i * d + k] * key[j * d + k];
      products[i * nK + j] = sum;
    }
  }
  return products;
}

/**
 * Which cells the mask closes (1) or leaves open (0), nQ × nK.
 * "causal": the queries are the last nQ of nK positions, and each sees itself and what is before
 * it. "padding": what `allowed` (1 = may look) says. "both": either closes a cell.
 */
export function blockedCells(kind, allowed, nQ, nK) {
  const blocked = new Uint8Array(nQ * nK);
  for (let i = 0; i < nQ; i++) {
    for (let j = 0; j < nK; j++) {
      const at = i * nK + j;
      const later = kind !== "none" && kind !== "padding" && j > i + nK - nQ;
      const closed = kind !== "none" && kind !== "causal" && allowed[at] === 0;
      blocked[at] = later || closed ? 1 : 0;
    }
  }
  return blocked;
}

/** Weights of every row; a row with every cell blocked is all zeros. */
export function attentionWeights({ products, blocked, nQ, nK, d, scaled, temperature }) {
  const divisor = (scaled ? Math.sqrt(d) : 1) * temperature;
  const weights = new Float64Array(nQ * nK);
  for (let i = 0; i < nQ; i++) {
    const row = new Float64Array(nK);
    for (let j = 0; j < nK; j++) {
      row[j] = blocked[i * nK + j] ? -Infinity : products[i * nK + j] / divisor;
    }
    weights.set(nlSoftmax(row), i * nK);
  }
  return weights;
}

const MOST_BARS = 12;
const MIN_CELL = 24; // px; smaller is hard to hit with a finger

/** Which bars a row shows: every key in its order, or of many the heaviest and the rest as one. */
export function rowBars(row) {
  const all = Array.from(row, (share, column) => ({ column, rest: 0, share }));
  if (all.length <= MOST_BARS) return all;
  const heaviest = [...all].sort((a, b) => b.share - a.share || a.column - b.column);
  const rest = heaviest.splice(MOST_BARS - 1);
  const share = rest.reduce((sum, bar) => sum + bar.share, 0);
  return [...heaviest, { column: -1, rest: rest.length, share }];
}

const MASK_NAMES = { none: "无", causal: "因果", padding: "填充", both: "因果＋填充" };

function shortNumber(x) {
  return String(Number(x.toPrecision(3)));
}

/** The formula as it is set now, in the letters of the book. */
export function formulaText({ d, scaled, temperature, maskKind }) {
  const scale = scaled ? ` ÷ √${d}` : "";
  const heat = temperature === 1 ? "" : ` ÷ ${shortNumber(temperature)}`;
  const mask = maskKind === "none" ? "" : ` ＋ ${MASK_NAMES[maskKind]}掩码`;
  return `权重 = softmax( Q Kᵀ${scale}${heat}${mask} )`;
}

/** The state of the model as plain values, every index inside its range. */
function readState(model) {
  const { layers, heads, n_query: nQ, n_key: nK, d_head: d } = model.get("shape");
  return {
    layers,
    heads,
    nQ,
    nK,
    d,
    layer: nlClampIndex(model.get("layer"), layers),
    head: nlClampIndex(model.get("head"), heads),
    maskKind: model.get("mask_kind"),
    temperature: model.get("temperature"),
    scaled: model.get("scaled"),
    queryIndex: nlClampIndex(model.get("query_index"), nQ),
    tokens: model.get("tokens"),
    keyTokens: model.get("key_tokens"),
  };
}

/** All heads of the tensors; `weights(state, head)` keeps Q Kᵀ, which no control changes. */
function makeCalculator(model) {
  const query = nlFloat16(model.get("query_data"));
  const key = nlFloat16(model.get("key_data"));
  const allowed = nlUint8(model.get("mask_data"));
  const cache = new Map();
  const products = ({ layer, heads, nQ, nK, d }, head) => {
    const at = layer * heads + head;
    if (!cache.has(at)) {
      const q = query.subarray(at * nQ * d, (at + 1) * nQ * d);
      const k = key.subarray(at * nK * d, (at + 1) * nK * d);
      cache.set(at, dotProducts(q, k, nQ, nK, d));
    }
    return cache.get(at);
  };
  return {
    products,
    blocked: ({ maskKind, nQ, nK }) => blockedCells(maskKind, allowed, nQ, nK),
    weights: (state, head, blocked) =>
      attentionWeights({ ...state, products: products(state, head), blocked }),
  };
}

/** A row of small pictures, one a head, to choose from. */
function headPicker({ heads, onChange }) {
  const row = nlElement("div", { class: "nl-choices", "data-nl": "head" });
  const pictures = Array.from({ length: heads }, (_, head) => {
    const canvas = nlElement("canvas", { "aria-hidden": "true" });
    row.append(
      nlElement(
        "button",
        {
          class: "nl-button nl-head",
          type: "button",
          "data-nl": `head-${head}`,
          onclick: () => onChange(head),
        },
        canvas,
        nlElement("span", {}, `头 ${head + 1}`),
      ),
    );
    return canvas;
  });
  const paint = (head, weights, blocked, { nQ, nK }, dark) => {
    const canvas = pictures[head];
    canvas.width = nK;
    canvas.height = nQ;
    const context = canvas.getContext("2d");
    const image = context.createImageData(nK, nQ);
    weights.forEach((weight, i) => {
      const color = nlWeightColor(weight, dark);
      image.data.set([...color, blocked[i] ? 70 : 255], 4 * i);
    });
    context.putImageData(image, 0, 0);
  };
  const set = (head) => {
    [...row.children].forEach((button, i) =>
      button.setAttribute("aria-pressed", String(i === head)),
    );
  };
  const caption = nlElement("span", { class: "nl-label", "aria-hidden": "true" }, "头");
  const group = { class: "nl-field nl-heads", role: "group", "aria-label": "头" };
  return { element: nlElement("div", group, caption, row), paint, set };
}

function render({ model, el }) {
  const figure = nlFigure({ model, el, onTheme: () => update() });
  const { root, scope } = figure;
  const calculator = makeCalculator(model);
  let state = readState(model);
  let pointed = null; // the cell under the pointer; its row is shown instead of the chosen one

  const change = (trait, value) => nlPut(model, { [trait]: value });

  // Controls
  const formula = nlElement("p", { class: "nl-formula", "data-nl": "formula" });
  const layer = nlSelect({
    name: "layer",
    label: "层",
    options: Array.from({ length: state.layers }, (_, i) => [String(i), `第 ${i + 1} 层`]),
    value: String(state.layer),
    onChange: (value) => change("layer", Number(value)),
  });
  layer.element.hidden = state.layers === 1;
  const heads = headPicker({ heads: state.heads, onChange: (head) => change("head", head) });
  heads.element.hidden = state.heads === 1;
  const mask = nlChoices({
    name: "mask",
    label: "掩码",
    options: model.get("mask_kinds").map((kind) => [kind, MASK_NAMES[kind]]),
    value: state.maskKind,
    onChange: (kind) => change("mask_kind", kind),
  });
  const temperature = nlRange({
    name: "temperature",
    label: "温度 T",
    min: -1,
    max: 1,
    step: 0.05,
    value: state.temperature,
    format: shortNumber,
    toPosition: Math.log10,
    toValue: (position) => Number((10 ** position).toPrecision(2)),
    onInput: (value) => change("temperature", value),
  });
  const scaled = nlCheckbox({
    name: "scaled",
    label: ["除以 √d", nlElement("sub", {}, "k")],
    checked: state.scaled,
    onChange: (value) => change("scaled", value),
  });
  const choice = nlElement("div", { class: "nl-controls nl-choice" }, layer.element, heads.element);
  choice.hidden = state.layers === 1 && state.heads === 1;
  const controls = nlElement(
    "div",
    { class: "nl-controls" },
    mask.element,
    temperature.element,
    scaled.element,
  );

  // Heatmap on one side, the chosen row on the other
  const legend = nlLegend({ name: "legend", label: "权重" });
  const heatmap = nlHeatmap({
    name: "heatmap",
    corner: "查询＼键",
    minCell: MIN_CELL,
    maxCell: 96,
    footer: legend.element,
    onPoint: (cell, by) => {
      pointed = cell;
      if (cell && by === "keyboard" && cell.row !== state.queryIndex) {
        change("query_index", cell.row);
      }
      showRow();
    },
    onSelect: (cell) => change("query_index", cell.row),
  });
  const heading = nlElement("p", { class: "nl-row-title", "data-nl": "query" });
  const bars = nlBars({ name: "weights", label: "选中的查询对每个键的权重" });
  const entropy = nlElement("p", { class: "nl-note", "data-nl": "entropy" });
  const readout = nlElement("p", {
    class: "nl-readout",
    "data-nl": "readout",
    "aria-live": "polite",
  });
  const map = nlElement("div", { class: "nl-map" }, heatmap.element);
  // As wide as its cells want to be: with many keys the panel goes below instead of beside it.
  map.style.flexBasis = `${Math.max(300, 72 + MIN_CELL * state.nK)}px`;
  const panel = nlElement("div", { class: "nl-panel" }, heading, bars.element, entropy);
  root.append(
    formula,
    choice,
    controls,
    nlElement("div", { class: "nl-body" }, map, panel),
    readout,
  );
  scope.add(heatmap.destroy);

  let blocked;
  let weights;

  function showRow() {
    const { nK, tokens, keyTokens, queryIndex, d } = state;
    const row = pointed?.row ?? queryIndex;
    const part = weights.subarray(row * nK, (row + 1) * nK);
    const open = nK - blocked.subarray(row * nK, (row + 1) * nK).reduce((a, b) => a + b, 0);
    heading.replaceChildren(
      "查询 ",
      nlElement("b", {}, tokens[row]),
      `（第 ${row + 1} 个）看向：`,
    );
    bars.update(
      rowBars(part).map(({ column, rest, share }) => ({
        label: rest ? `其余 ${rest} 个` : keyTokens[column],
        share,
        text: !rest && blocked[row * nK + column] ? "遮住" : nlPercent(share),
        pointed: !rest && pointed?.column === column,
      })),
    );
    entropy.textContent =
      open === 0
        ? "这一行的键全被掩码遮住：没有词元可看，权重全是 0，输出是零向量。"
        : `熵 ${nlEntropy(part).toFixed(2)} 比特；平均分给看得见的 ${open} 个键是 ` +
          `${Math.log2(open).toFixed(2)} 比特。`;

    if (pointed === null || pointed.column === null) {
      readout.textContent = "指着一格看它的数；点一行，或用方向键，选定查询。";
      return;
    }
    const at = row * nK + pointed.column;
    const pair = `「${tokens[row]}」看「${keyTokens[pointed.column]}」：`;
    const product = calculator.products(state, state.head)[at];
    const divisor = (state.scaled ? Math.sqrt(d) : 1) * state.temperature;
    readout.textContent = blocked[at]
      ? `${pair}被掩码遮住，权重 0。`
      : `${pair}q·k = ${nlNumber(product, 3)}，除以 ${nlNumber(divisor, 2)}，得分数 ` +
        `${nlNumber(product / divisor, 3)}，权重 ${nlNumber(weights[at], 4)}。`;
  }

  const update = nlCoalesce(() => {
    state = readState(model);
    blocked = calculator.blocked(state);
    const dark = figure.isDark();
    for (let head = 0; head < state.heads; head++) {
      const ofHead = calculator.weights(state, head, blocked);
      if (head === state.head) weights = ofHead;
      if (state.heads > 1) heads.paint(head, ofHead, blocked, state, dark);
    }
    formula.textContent = formulaText(state);
    layer.set(String(state.layer));
    heads.set(state.head);
    mask.set(state.maskKind);
    temperature.set(state.temperature);
    scaled.set(state.scaled);
    heatmap.update({
      values: weights,
      rows: state.nQ,
      columns: state.nK,
      rowLabels: state.tokens,
      columnLabels: state.keyTokens,
      blocked,
      ...nlWeights,
      format: (weight) => weight.toFixed(2),
      selectedRow: state.queryIndex,
      label: `注意力权重热图，${state.nQ} 个查询，${state.nK} 个键。方向键移动，回车选定查询。`,
      dark,
    });
    legend.update({ ...nlWeights, ticks: nlWeightTicks, dark });
    showRow();
  });

  const watched = ["layer", "head", "mask_kind", "temperature", "scaled", "query_index"];
  scope.follow(model, watched, update);
  update();
  return figure.cleanup;
}

export default { render };
