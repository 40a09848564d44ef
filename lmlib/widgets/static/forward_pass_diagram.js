// ForwardPass: the network, drawn from the step list alone. Boxes stack bottom to top as in
// figure 1 of the paper, encoder left, decoder right; every arrow is an `inputs` entry of a step.

const FP_BOX = 114; // drawing units, about one pixel each
const FP_SIDE = 16; // room outside each column for the residual arrows
const FP_GUTTER = 30; // room between the columns for the arrows of the memory
const FP_FRAME_GAP = 18; // room above a layer for its frame and name

// boxes: [{id, label, kind, column: 0 | 1, layer}] in walking order; steps: [{name, box, inputs,
// op}]. Returns plain geometry, so that a test can check it without a browser.
export function fpLayout(boxes, steps, pitch) {
  const columns = Math.max(...boxes.map((box) => box.column)) + 1;
  const width = columns * (FP_BOX + FP_SIDE) + (columns === 1 ? FP_SIDE : FP_GUTTER);
  const height = pitch * 0.7;
  const top = [0, 0]; // how far up each column is filled
  const lastLayer = ["", ""];
  const frames = new Map();
  const placed = boxes.map((box) => {
    const c = box.column;
    if (box.layer !== lastLayer[c]) top[c] += lastLayer[c] ? FP_FRAME_GAP : FP_FRAME_GAP / 2;
    lastLayer[c] = box.layer;
    const x = c === 0 ? FP_SIDE : width - FP_SIDE - FP_BOX;
    const item = { ...box, x, y: -top[c] - height, width: FP_BOX, height };
    top[c] += pitch;
    if (box.layer) {
      const frame = frames.get(`${c} ${box.layer}`) ?? { label: box.layer, column: c, items: [] };
      frame.items.push(item);
      frames.set(`${c} ${box.layer}`, frame);
    }
    return item;
  });
  const total = Math.max(...top) + FP_FRAME_GAP;
  for (const item of placed) item.y += total - FP_FRAME_GAP / 2;
  const outlines = [...frames.values()].map(({ label, column, items }) => ({
    label,
    x: items[0].x - 7,
    y: items[items.length - 1].y - 8,
    width: FP_BOX + 14,
    height: items[0].y + height - items[items.length - 1].y + 16,
    column,
  }));
  return { width, height: total, boxes: placed, frames: outlines, edges: fpEdges(placed, steps) };
}

// An edge for every pair of boxes of which the second reads the first: "flow" to the next box of
// the column, "cross" from encoder to decoder, and "residual" past a sublayer, where a sum takes
// up again what was there before. (The token ids and the logits are looked up once more for P(Y|X);
// those arrows would hide the way.)
export function fpEdges(boxes, steps) {
  const byId = new Map(boxes.map((box) => [box.id, box]));
  const boxOf = new Map(steps.map((step) => [step.name, step.box]));
  const place = new Map(boxes.map((box, index) => [box.id, index]));
  const seen = new Set();
  const edges = [];
  for (const step of steps) {
    for (const input of step.inputs) {
      const [from, to] = [byId.get(boxOf.get(input)), byId.get(step.box)];
      const key = `${from?.id}>${to.id}`;
      if (!from || from === to || seen.has(key)) continue;
      const between = boxes.some(
        (box) =>
          box.column === to.column &&
          place.get(box.id) > place.get(from.id) &&
          place.get(box.id) < place.get(to.id),
      );
      const kind = from.column !== to.column ? "cross" : between ? "residual" : "flow";
      if (kind === "residual" && step.op.kind !== "add") continue;
      seen.add(key);
      edges.push({ from: from.id, to: to.id, kind, ...fpRoute(from, to, kind) });
    }
  }
  return edges;
}

function fpRoute(from, to, kind) {
  const middle = from.x + from.width / 2;
  if (kind === "flow") {
    const end = to.y + to.height + 1;
    return { path: `M${middle} ${from.y}V${end}`, tip: [middle, end, "up"] };
  }
  if (kind === "cross") {
    const [start, end, gutter] = [from.x + from.width, to.x - 1, (from.x + from.width + to.x) / 2];
    const [a, b] = [from.y + from.height / 2, to.y + to.height / 2];
    const turn = Math.min(8, Math.abs(b - a) / 2);
    const down = b > a ? turn : -turn;
    const path =
      `M${start} ${a}H${gutter - turn}q${turn} 0 ${turn} ${down}` +
      `V${b - down}q0 ${down} ${turn} ${down}H${end}`;
    return { path, tip: [end, b, "right"] };
  }
  // Leaves the line just above `from`, runs outside the column, enters `to` from the side.
  const leave = from.y - 5;
  const enter = to.y + to.height / 2;
  const left = from.column === 0;
  const edge = left ? to.x - 1 : to.x + to.width + 1;
  const lane = left ? to.x - FP_SIDE + 4 : to.x + to.width + FP_SIDE - 4;
  const turn = left ? -6 : 6;
  const path =
    `M${middle} ${leave}H${lane - turn}q${turn} 0 ${turn} -6` +
    `V${enter + 6}q0 -6 ${-turn} -6H${edge}`;
  return { path, tip: [edge, enter, left ? "right" : "left"] };
}

const FP_TIPS = {
  up: (x, y) => `M${x} ${y}l-3.6 6h7.2z`,
  right: (x, y) => `M${x} ${y}l-6 -3.6v7.2z`,
  left: (x, y) => `M${x} ${y}l6 -3.6v7.2z`,
};

// The name in its box, pressed together where it would be too wide.
function fpLabel(box) {
  const text = { x: box.x + box.width / 2, y: box.y + box.height / 2, dy: "0.36em" };
  const wide = [...box.label].reduce((sum, sign) => sum + (sign > "\u2e80" ? 12.5 : 7), 0);
  if (wide > box.width - 8) {
    Object.assign(text, { textLength: box.width - 12, lengthAdjust: "spacingAndGlyphs" });
  }
  return nlSvg("text", text, box.label);
}

// Draws the network; `onPick(boxId)` is called by click, Enter or Space. Returns {element, mark};
// `mark(boxId)` lights the current box and the way that leads there.
export function fpDiagram(boxes, steps, pitch, onPick) {
  const plan = fpLayout(boxes, steps, pitch);
  const svg = nlSvg("svg", {
    viewBox: `0 0 ${plan.width} ${plan.height}`,
    class: "fp-network",
    role: "group",
    "aria-label": "网络结构图：选一个方框，跳到它的第一步",
  });
  for (const frame of plan.frames) {
    const { x, y, width, height } = frame;
    svg.append(
      nlSvg("rect", { class: "fp-frame", x, y, width, height, rx: 10 }),
      nlSvg("text", { class: "fp-frame-label", x: x + 8, y: y - 5 }, frame.label),
    );
  }
  const edges = plan.edges.map((edge) => {
    const group = nlSvg(
      "g",
      { class: `fp-edge fp-edge-${edge.kind}` },
      nlSvg("path", { class: "fp-line", d: edge.path }),
      nlSvg("path", { class: "fp-tip", d: FP_TIPS[edge.tip[2]](edge.tip[0], edge.tip[1]) }),
    );
    svg.append(group);
    return { ...edge, group };
  });
  const nodes = new Map();
  for (const box of plan.boxes) {
    const count = steps.filter((step) => step.box === box.id).length;
    const where = box.layer ? `${box.layer}，` : "";
    const group = nlSvg(
      "g",
      {
        class: "fp-box",
        role: "button",
        tabindex: 0,
        "data-nl": "box",
        "data-box": box.id,
        "data-kind": box.kind,
        "aria-label": `${where}${box.label}，${count} 步`,
      },
      nlSvg("rect", { x: box.x, y: box.y, width: box.width, height: box.height, rx: 7 }),
      fpLabel(box),
    );
    group.addEventListener("click", () => onPick(box.id));
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      onPick(box.id);
    });
    svg.append(group);
    nodes.set(box.id, group);
  }
  const order = plan.boxes.map((box) => box.id);
  function mark(current) {
    const here = order.indexOf(current);
    order.forEach((id, place) => {
      const node = nodes.get(id);
      node.setAttribute("data-state", place < here ? "done" : place === here ? "current" : "ahead");
      if (place === here) node.setAttribute("aria-current", "step");
      else node.removeAttribute("aria-current");
    });
    for (const edge of edges) {
      const done = order.indexOf(edge.to) < here ? "done" : "ahead";
      edge.group.setAttribute("data-state", edge.to === current ? "current" : done);
    }
  }
  return { element: svg, mark };
}
