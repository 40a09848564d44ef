// ForwardPass: how one tensor is shown. Tokens as cards; rows of numbers as a heatmap with
// a table of exact numbers under it; attention as a square a head; a distribution as its ten best
// tokens; the end as the chain rule written out.

const FP_BINS = 512; // columns a heatmap draws at most; wider tensors are gathered into bins
const FP_TABLE = 6; // columns of the table of numbers
const FP_TOP = 10;

// Rows and columns of what is on show: the last two axes, of one head if there are four.
export function fpSlice(tensor, head) {
  const { shape, values } = tensor;
  const columns = shape[shape.length - 1];
  const rows = shape.length > 1 ? shape[shape.length - 2] : 1;
  const from = shape.length === 4 ? nlClampIndex(head, shape[1]) * rows * columns : 0;
  return { rows, columns, values: values.subarray(from, from + rows * columns) };
}

// Colour scale of a step, from all heads so that heads can be compared: signed numbers around 0,
// others from 0 up, attention weights to 1.
export function fpScale(step, values) {
  const [low, high] = nlExtent(values);
  const weights = step.view === "square" && step.op.kind === "softmax";
  if (low >= 0) return { scale: "sequential", low: 0, high: weights ? 1 : high || 1 };
  const reach = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return { scale: "diverging", low: -reach, high: reach };
}

// One sentence on what to look at, with its numbers counted here and now.
export function fpHint(step, tensor) {
  const { kind } = step.op;
  const share = (test) => nlPercent(tensor.values.filter(test).length / tensor.values.length);
  const last = step.shape[step.shape.length - 1];
  if (kind === "literal") return "词表里的编号：从这里起，网络只看见数。";
  if (kind === "sinusoid") return "只由位置决定，与是哪个字无关：偶数列是正弦，奇数列是余弦，越往右波长越长。";
  if (kind === "scale") return `每个数乘以 ${fpNumber(step.op.by)}。`;
  if (kind === "mask") {
    const blocked = step.op.allowed.flat().filter((allowed) => !allowed).length;
    return blocked ? `斜纹的 ${blocked} 格是不许看的位置，分数换成 −∞。` : "这里每个位置都许看：掩码没有挡住任何一格。";
  }
  if (kind === "softmax" && step.view === "square") return "每一行加起来是 1：数越大，这一行的词元从那一列取得越多。";
  if (kind === "softmax") {
    const even = fpNumber(1 / last);
    return `每一行 ${last} 个数加起来是 1；若完全没有主意，每个都是 1/${last} = ${even}。`;
  }
  if (kind === "relu") return `负数都变成 0：这里 ${share((x) => x === 0)} 的数是 0。`;
  if (kind === "norm" && step.op.centred) return "每一行先减去均值、除以标准差，再乘以 γ、加上 β：每个位置的数回到同样的大小。";
  if (kind === "concat") return `各个头的结果并排放回一行，又是 ${last} 个数。`;
  return "";
}

function fpStatisticsLine(values) {
  const { low, high, mean, std } = fpStatistics(values);
  const pairs = [["最小", low], ["最大", high], ["均值", mean], ["标准差", std]];
  return pairs.map(([label, x]) => `${label} ${fpCell(x)}`).join(" · ");
}

function fpLegend(dark) {
  const attributes = { class: "fp-legend-bar", width: 128, height: 1, "aria-hidden": "true" };
  const canvas = nlElement("canvas", attributes);
  const [low, high] = [nlElement("span"), nlElement("span")];
  const element = nlElement("div", { class: "fp-legend", "data-nl": "legend" }, low, canvas, high);
  function update({ scale, low: from, high: to }) {
    const context = canvas.getContext("2d");
    for (let x = 0; x < 128; x++) {
      context.fillStyle = `rgb(${nlColor(x, 0, 127, scale, dark()).join(",")})`;
      context.fillRect(x, 0, 1, 1);
    }
    low.textContent = fpCell(from);
    high.textContent = fpCell(to);
  }
  return { element, update };
}

// The heads as small pictures; the pressed one is shown large.
function fpHeads({ tensor, scale, head, dark, onHead }) {
  const row = nlElement("div", {
    class: "fp-heads",
    role: "group",
    "aria-label": "选一个头",
    "data-nl": "head",
    style: `--fp-across: ${Math.min(8, tensor.shape[1])}`,
  });
  for (let h = 0; h < tensor.shape[1]; h++) {
    const { rows, columns, values } = fpSlice(tensor, h);
    const picture = nlElement("canvas", { width: columns, height: rows, "aria-hidden": "true" });
    const context = picture.getContext("2d");
    values.forEach((x, i) => {
      if (!Number.isFinite(x)) return;
      context.fillStyle = `rgb(${nlColor(x, scale.low, scale.high, scale.scale, dark).join(",")})`;
      context.fillRect(i % columns, Math.floor(i / columns), 1, 1);
    });
    row.append(
      nlElement(
        "button",
        {
          class: "fp-head",
          type: "button",
          "data-nl": `head-${h}`,
          "aria-pressed": String(h === head),
          "data-square": String(columns <= 2 * rows),
          onclick: () => onHead(h),
        },
        picture,
        nlElement("span", {}, `头 ${h + 1}`),
      ),
    );
  }
  return row;
}

function fpTokens({ step, tensor }) {
  const cards = [...tensor.values].map((id, i) =>
    nlElement(
      "li",
      { class: "fp-token" },
      nlElement("b", {}, step.rows[i]),
      nlElement("span", {}, String(id)),
    ),
  );
  return [nlElement("ol", { class: "fp-tokens", "data-nl": "tokens" }, ...cards)];
}

// Two decimals, for a cell of a square.
function fpInCell(x) {
  const size = Math.abs(x);
  return nlNumber(size < 0.005 ? 0 : x, size < 100 ? 2 : 0);
}

// The heatmap, the line that reads the pointed number out, and the table of exact numbers.
function fpMatrix(context) {
  const { step, tensor, head, scale, isDark, vocabulary, memory } = context;
  const { rows, columns, values } = fpSlice(tensor, head);
  const square = step.view === "square";
  const binned = fpBins(values, rows, columns, FP_BINS);
  const columnName = (c) => {
    if (square) return `「${step.columns[c]}」`;
    return step.view === "vocabulary" ? `第 ${c} 列「${vocabulary[c] ?? "？"}」` : `第 ${c} 列`;
  };
  const live = { class: "nl-readout", "aria-live": "polite", "data-nl": "readout" };
  const readout = nlElement("p", live);
  const quiet = fpStatisticsLine(values);
  const report = (cell) => {
    if (!cell || cell.column === null) {
      readout.textContent = quiet;
      return;
    }
    const column = binned.at[cell.row * binned.bins + cell.column];
    const among = binned.per > 1 ? "（这一格里绝对值最大的一列）" : "";
    const value = fpNumber(values[cell.row * columns + column]);
    readout.textContent = `「${step.rows[cell.row]}」这一行，${columnName(column)}${among}：${value}`;
  };
  const heatmap = nlHeatmap({
    name: "heatmap",
    corner: square ? "查询＼键" : "",
    minCell: square ? 40 : binned.bins > 64 ? 3 : 4,
    maxCell: square ? 72 : 24,
    cellHeight: square ? 40 : 26,
    columnKind: square ? "tokens" : "index",
    onPoint: report,
    onSelect: ({ row, column }) => {
      if (column !== null) table?.show(binned.at[row * binned.bins + column]);
    },
  });
  const table = square ? null : fpTable({ ...context, rows, columns, values, onColumn: bring });
  // Scrolls the heatmap to a column that was asked for by its number.
  function bring(column) {
    const scroller = heatmap.canvas.parentElement;
    scroller.scrollLeft = (column / columns) * heatmap.canvas.clientWidth - 8;
  }
  report(null);
  const parts = [heatmap.element, readout];
  if (table) parts.push(table.element);
  const draw = () => {
    heatmap.update({
      values: binned.values,
      rows,
      columns: binned.bins,
      rowLabels: step.rows,
      columnLabels: square
        ? step.columns
        : Array.from({ length: binned.bins }, (_, bin) => String(bin * binned.per)),
      blocked: Uint8Array.from(binned.values, (x) => (x === -Infinity ? 1 : 0)),
      ...scale,
      format: square ? fpInCell : null,
      label: `${step.title}：${rows} 行 ${columns} 列。方向键移动，读出每个数。`,
      dark: isDark(),
    });
    if (memory.column) bring(memory.column);
  };
  return { parts, draw, destroy: heatmap.destroy };
}

// FP_TABLE columns of exact numbers, from a column that the reader chooses.
function fpTable({ step, rows, columns, values, scale, isDark, memory, onColumn }) {
  const span = Math.min(FP_TABLE, columns);
  const body = nlElement("table", { class: "fp-table", "data-nl": "numbers" });
  const input = nlElement("input", {
    class: "fp-column",
    type: "number",
    min: 0,
    max: columns - 1,
    inputmode: "numeric",
    "data-nl": "column",
    oninput: () => {
      if (input.value === "") return;
      show(Number(input.value), true);
      onColumn(memory.column);
    },
  });
  function show(column, typing = false) {
    const first = Math.max(0, Math.min(columns - span, nlClampIndex(column, columns)));
    memory.column = first;
    if (!typing) input.value = String(first);
    const ids = Array.from({ length: span }, (_, i) => first + i);
    const head = nlElement(
      "tr",
      {},
      nlElement("td"),
      ...ids.map((c) => nlElement("th", { scope: "col" }, String(c))),
    );
    const lines = Array.from({ length: rows }, (_, row) => {
      const cells = ids.map((c) => {
        const x = values[row * columns + c];
        const color = nlColor(x, scale.low, scale.high, scale.scale, isDark());
        const style = `background:rgb(${color.join(",")});color:${nlInkOn(color)}`;
        return nlElement("td", { style }, fpCell(x));
      });
      return nlElement("tr", {}, nlElement("th", { scope: "row" }, step.rows[row]), ...cells);
    });
    body.replaceChildren(head, ...lines);
  }
  show(memory.column);
  const caption = nlElement(
    "label",
    { class: "fp-from" },
    "从第 ",
    input,
    ` 列看起（共 ${columns} 列；上面的图可以左右滚动，点哪里就从哪里看起）`,
  );
  return { element: nlElement("div", { class: "fp-numbers" }, caption, body), show };
}

// The ten best tokens of one row, and where the right one stands.
function fpDistribution({ step, tensor, vocabulary, memory }) {
  const width = step.shape[step.shape.length - 1];
  const probabilities = step.op.kind === "softmax";
  const bars = nlBars({ name: "top", label: `最大的 ${FP_TOP} 个` });
  const answer = nlElement("p", { class: "fp-answer", "aria-live": "polite", "data-nl": "answer" });
  const tabs = nlChoices({
    name: "row",
    label: "读到哪里，猜下一个",
    options: step.rows.map((token, row) => [row, token]),
    value: memory.row,
    onChange: (row) => show(Number(row)),
  });
  function show(row) {
    memory.row = row;
    tabs.set(row);
    const start = row * width;
    const best = fpTop(tensor.values, start, width, FP_TOP);
    const low = probabilities ? 0 : Math.min(0, best[best.length - 1].value);
    const high = probabilities ? 1 : best[0].value;
    const target = step.targets?.[row];
    // Shares of a nearly even distribution would all be invisible: then the best one fills the bar.
    const top = probabilities && best[0].value < 0.05 ? best[0].value : high;
    bars.update(
      best.map(({ id, value }) => ({
        label: vocabulary[id] ?? String(id),
        share: (value - low) / (top - low || 1),
        text: fpNumber(value),
        pointed: id === target,
      })),
    );
    if (target === undefined) return;
    const rank = fpRank(tensor.values, start, width, target);
    const name = vocabulary[target] ?? String(target);
    const value = fpNumber(tensor.values[start + target]);
    const symbol = probabilities ? "P" : "logit";
    answer.replaceChildren(
      "该接的是「",
      nlElement("b", {}, name),
      `」：在 ${width} 个词元里排第 `,
      nlElement("b", { "data-nl": "rank" }, String(rank)),
      `，${symbol} = `,
      nlElement("b", { "data-nl": "answer-value" }, value),
    );
  }
  show(nlClampIndex(memory.row, step.rows.length));
  return [tabs.element, answer, bars.element];
}

// P(Y|X), factor by factor, for every set of weights side by side.
function fpChain({ step, pass, vocabulary }) {
  const { chain } = step;
  // The step of the logarithms shows those; the sums are theirs in any case, for a product of many
  // small factors would be 0.
  const [inLogs, ln] = step.name === chain.logs ? [true, "ln "] : [false, ""];
  const every = (name) => pass.variants.map((_, v) => pass.tensor(name, v).values);
  const logs = every(chain.logs);
  const factors = inLogs ? logs : every(chain.factors);
  const targets = chain.targets.map((id) => vocabulary[id] ?? String(id));
  const given = (i) => [...chain.given.slice(0, i + 1)].join(" ");
  const head = ["因子", ...pass.variants].map((text) => nlElement("th", { scope: "col" }, text));
  const lines = targets.map((target, i) =>
    nlElement(
      "tr",
      {},
      nlElement(
        "th",
        { scope: "row" },
        `${ln}P(`,
        nlElement("b", {}, target),
        ` | ${given(i)})`,
      ),
      ...factors.map((values) => nlElement("td", {}, fpNumber(values[i]))),
    ),
  );
  const sum = (values) => values.reduce((result, x) => result + x, 0);
  const total = (label, number, name) =>
    nlElement(
      "tr",
      { class: "fp-total", "data-nl": name },
      nlElement("th", { scope: "row" }, label),
      ...logs.map((values) => nlElement("td", {}, number(values))),
    );
  const even = `若每次都在 ${chain.vocab} 个里乱猜：P(Y|X) = (1/${chain.vocab})`;
  const power = nlElement("sup", {}, String(targets.length));
  return [
    nlElement(
      "div",
      { class: "fp-scroll", tabindex: 0, role: "group", "aria-label": "链式法则的每个因子" },
      nlElement(
        "table",
        { class: "fp-chain", "data-nl": "chain" },
        nlElement("tr", {}, ...head),
        ...lines,
        total("相乘：P(Y|X)", (logs) => fpNumber(Math.exp(sum(logs))), "product"),
        total("取对数相加：ln P(Y|X)", (logs) => fpNumber(sum(logs)), "log-product"),
        total("每个词元的困惑度", (logs) => fpNumber(Math.exp(-sum(logs) / logs.length), 2), "perplexity"),
      ),
    ),
    nlElement(
      "p",
      { class: "fp-product", "data-nl": "spelled" },
      "P(Y|X) = ",
      ...targets.flatMap((token, i) => [
        i ? " · " : "",
        nlElement(
          "span",
          {},
          "P(",
          nlElement("b", {}, token),
          ` | ${i ? "…" : ""}${chain.given[i]})`,
        ),
      ]),
    ),
    nlElement("p", { class: "nl-note" }, "每个条件里还有编码器读到的整句（源句），这里省去不写。"),
    nlElement(
      "p",
      { class: "nl-note" },
      even,
      power,
      ` = ${fpNumber(chain.vocab ** -targets.length)}，困惑度正好是 ${chain.vocab}。`,
    ),
  ];
}

// Holds the shown parts; `memory` keeps the column and the row when the reader walks on.
export function fpView(target, { pass, vocabulary, isDark, onHead }) {
  const memory = { column: 0, row: 0, key: "" };
  let matrix = null;
  function show({ step, variant, head, fresh = false }) {
    const key = `${step.name} ${variant} ${head}`;
    if (key === memory.key && !fresh) return;
    const focused = target.contains(document.activeElement) && document.activeElement.dataset.nl;
    memory.key = key;
    matrix?.destroy();
    matrix = null;
    const tensor = pass.tensor(step.name, variant);
    const scale = fpScale(step, tensor.values);
    const context = { step, tensor, pass, vocabulary, isDark, memory, scale };
    context.head = tensor.shape.length === 4 ? nlClampIndex(head, tensor.shape[1]) : 0;
    const parts = [];
    const hint = fpHint(step, tensor);
    if (hint) parts.push(nlElement("p", { class: "nl-note fp-hint", "data-nl": "hint" }, hint));
    if (step.view === "tokens") parts.push(...fpTokens(context));
    else if (step.view === "chain") parts.push(...fpChain(context));
    else {
      if (step.view === "vocabulary") parts.push(...fpDistribution(context));
      if (tensor.shape.length === 4 && tensor.shape[1] > 1) {
        parts.push(fpHeads({ tensor, scale, head: context.head, dark: isDark(), onHead }));
      }
      matrix = fpMatrix(context);
      const legend = fpLegend(isDark);
      legend.update(scale);
      parts.push(...matrix.parts, legend.element);
    }
    target.replaceChildren(...parts);
    matrix?.draw(); // after it is in the page: its size is known only there
    if (focused) target.querySelector(`[data-nl="${focused}"]`)?.focus({ preventScroll: true });
  }
  return { show, destroy: () => matrix?.destroy() };
}
