// ForwardPass: a sentence of the reader's own. The shipped model runs here in the page, and the
// walk is the traced one with other tokens and numbers.

const FP_LONGEST = 12; // characters; more rows than that do not fit beside each other
const FP_LABEL = 8; // tokens that fit into a box of the diagram

/** Whose tokens the rows of a step are: "source" or "target"; the twin of `_side` in Python. */
function fpSide(name) {
  const fromSource = /^(source|encoder|memory)/.test(name);
  const fromMemory = name.includes(".cross_attention.") && /\.[KV]$/.test(name);
  return fromSource || fromMemory ? "source" : "target";
}

/** The ids that a step of the traced sentence has. */
function fpIds(steps, name) {
  return steps.find((step) => step.name === name).op.values;
}

/**
 * What the network shall say: the sentence itself where the traced one was to be copied, otherwise
 * what it writes of its own accord.
 */
function fpTarget(steps, network, source) {
  const copy = [...fpIds(steps, "source_ids"), network.config.eos_id];
  if (String(copy) === String(fpIds(steps, "target_ids"))) {
    return [...source, network.config.eos_id];
  }
  const run = network.start(source, { limit: 2 * source.length + 8 });
  while (!run.done) run.step();
  return run.ids;
}

/**
 * The walk of `text`: { pass, boxes } as the traced one has them, its only variant called `name`.
 * `traced` is { steps, boxes }, `vocabulary` the tokens in order of their ids.
 */
export function fpTypedWalk(traced, vocabulary, network, text, name) {
  const source = network.tokenizer.encode(text);
  const target = fpTarget(traced.steps, network, source);
  const tensors = network.trace(source, target);
  const read = [...tensors.target_in.values];
  const tokens = (ids) => ids.map((id) => vocabulary[id]);
  const sides = { source: tokens(source), target: tokens(read) };
  // With a single token a mask hides nothing: then the scores stay as they are.
  const tensor = (step) => tensors[step] ?? tensors[step.replace("masked_scores", "scores")];

  const steps = traced.steps.map((step) => {
    const { shape, values } = tensor(step.name);
    const own = sides[fpSide(step.name)];
    const columns = step.name.includes(".cross_attention.") ? sides.source : own;
    return {
      ...step,
      shape,
      rows: step.view === "tokens" ? tokens([...values]) : own,
      columns: step.columns && columns,
      targets: step.targets && target,
      chain: step.chain && { ...step.chain, targets: target, given: sides.target, source: sides.source },
      op: fpTypedOp(step.op, shape, values),
    };
  });
  const labels = {
    "source.tokens": sides.source.length <= FP_LABEL ? sides.source.join(" ") : "源序列",
    "target.tokens": sides.target.length <= FP_LABEL ? sides.target.join(" ") : "右移的目标",
  };
  return {
    pass: { steps, variants: [name], tensor },
    boxes: traced.boxes.map((box) => ({ ...box, label: labels[box.id] ?? box.label })),
  };
}

/** What is said of where the numbers come from. */
function fpTypedOp(op, shape, values) {
  if (op.kind === "shipped") return { kind: "network" };
  if (op.kind === "literal") return { kind: "literal", values: [...values] };
  if (op.kind !== "mask") return op;
  const [rows, columns] = shape.slice(-2);
  const allowed = (i, j) => Number(values[i * columns + j] > -Infinity); // the same for every head
  const row = (i) => Array.from({ length: columns }, (_, j) => allowed(i, j));
  return { ...op, allowed: Array.from({ length: rows }, (_, i) => row(i)) };
}

/**
 * The line in which the reader types. `onWalk(walk)` is called with a walk as of `fpTypedWalk`, or
 * with null when the line holds the traced sentence again.
 */
function fpTyping({ model, traced, vocabulary, onWalk }) {
  const name = model.get("model");
  const original = fpIds(traced.steps, "source_ids").map((id) => vocabulary[id]).join("");
  const input = nlTextInput({ name: "sentence", className: "fp-sentence" });
  const note = nlElement("p", { class: "nl-note", role: "status", "data-nl": "sentence-note" });
  const back = nlButton({
    name: "sentence-back",
    text: "回到原来的句子",
    onClick: () => {
      input.value = original;
      take();
    },
  });
  let network = null;
  let shown = original;
  const loader = lmLoader({
    figure: model,
    name,
    onNetwork: (loaded) => {
      network = loaded;
      take();
    },
  });
  const text = () => [...input.value.trim()].slice(0, FP_LONGEST).join("");

  function say(sentence) {
    note.textContent = sentence;
    note.hidden = !sentence;
  }
  function remark() {
    const typed = [...input.value.trim()];
    if (!typed.length) return "先写一个字。";
    const strange = network ? network.tokenizer.unknown(text()).map((at) => typed[at]) : [];
    const parts = [];
    if (typed.length > FP_LONGEST) parts.push(`最多 ${FP_LONGEST} 个字，后面的没有算。`);
    if (strange.length) parts.push(`词表里没有「${[...new Set(strange)].join("")}」，读作 <unk>。`);
    return parts.join("");
  }
  function take() {
    const wanted = text();
    say(remark());
    back.element.hidden = wanted === original;
    if (!wanted || wanted === shown) return;
    if (wanted !== original) loader.touch();
    if (wanted !== original && !network) return;
    shown = wanted;
    try {
      onWalk(wanted === original ? null : fpTypedWalk(traced, vocabulary, network, wanted, name));
    } catch (error) {
      say(error.message);
    }
  }
  input.value = original;
  say("");
  back.element.hidden = true;
  input.addEventListener("focus", () => loader.touch());
  nlOnText(input, take);
  const caption = nlElement("span", { class: "nl-label" }, `换一句话（最多 ${FP_LONGEST} 个字），模型就在这一页里重算`);
  const field = nlElement("label", { class: "nl-field" }, caption, input);
  const line = nlElement("div", { class: "fp-line-in" }, field, back.element);
  return { element: nlElement("div", { class: "fp-typing" }, line, note, loader.element) };
}
