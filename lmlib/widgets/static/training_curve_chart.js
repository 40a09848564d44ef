// TrainingCurve: the chart. Everything but the cursor is drawn anew when a control changes; the
// cursor alone moves while one scrubs.

const TC_DASHES = ["", "7 3", "2 2.5", "9 3 2 3", "14 3", "5 2 1.5 2 1.5 2"];
// Around (0, 0), about 8 pixels wide: circle, square, triangle, diamond, triangle down, plus.
const TC_MARKS = [
  "M-4 0A4 4 0 1 1 4 0A4 4 0 1 1-4 0Z",
  "M-3.5-3.5H3.5V3.5H-3.5Z",
  "M0-4.6L4.4 3.4H-4.4Z",
  "M0-4.9L4.4 0L0 4.9L-4.4 0Z",
  "M0 4.6L4.4-3.4H-4.4Z",
  "M-1.4-4.4H1.4V-1.4H4.4V1.4H1.4V4.4H-1.4V1.4H-4.4V-1.4H-1.4Z",
];
const TC_LABEL = 7; // px, the mean width of a character of a tick's label
const TC_TOP = 40; // px above the plot: the name of the axis, and the place of the cursor
const TC_BOTTOM = 42; // px below it: ticks, and the name of the axis

/** The line and the mark of a run, as they stand in the chart. */
function tcSwatch(run) {
  return nlSvg(
    "svg",
    { class: `tc-swatch tc-run-${run}`, width: 34, height: 14, "aria-hidden": "true" },
    nlSvg("path", { class: "tc-line", d: "M1 7H33", "stroke-dasharray": TC_DASHES[run] }),
    nlSvg("path", { class: "tc-mark", d: TC_MARKS[run], transform: "translate(17 7)" }),
  );
}

/** "M…L…" through the values; a missing one is passed over. */
export function tcPath(xs, ys, toX, toY) {
  let path = "";
  xs.forEach((x, i) => {
    if (!toX.knows(x) || !toY.knows(ys[i])) return;
    path += `${path ? "L" : "M"}${toX(x).toFixed(1)} ${toY(ys[i]).toFixed(1)}`;
  });
  return path;
}

/** The two scales of a chart of this size, so that everything shown lies inside. */
export function tcScales({ series, heights, logX, logY, width, height, axis }) {
  const xs = series.flatMap(({ x, pages }) => [...x, ...pages.map((page) => page.x)]);
  const last = nlExtent(xs)[1];
  const [first] = tcRange(xs, true, 0);
  const ys = series.flatMap(({ raw, smooth, evaluated }) => [...raw, ...smooth, ...evaluated]);
  const [low, high] = tcRange([...ys, ...heights], logY, 0.05);
  const bottom = height - TC_BOTTOM;
  const yTicks = tcTicks(low, high, logY, Math.max(3, Math.round((bottom - TC_TOP) / 34)));
  const texts = yTicks.map((tick) => tcNumber(tick, 6));
  const left = 12 + TC_LABEL * Math.max(...texts.map((text) => text.length));
  const right = width - (axis === "tokens" ? 26 : 16); // half of the last label
  const domain = logX && first < last ? [first, last] : [0, last || 1];
  const toX = tcScale(...domain, logX && first < last, left, right);
  const most = Math.max(3, Math.min(10, Math.floor((right - left) / 52)));
  const xTicks = tcTicks(toX.low, toX.high, toX.log, most);
  return { toX, toY: tcScale(low, high, logY, bottom, TC_TOP), xTicks, yTicks, left, right, bottom };
}

function tcAxes({ toX, toY, xTicks, yTicks, left, right, bottom }, { axis, name }) {
  const text = (x, y, anchor, content) =>
    nlSvg("text", { class: "tc-tick", x, y, "text-anchor": anchor }, content);
  const rows = yTicks.flatMap((tick) => [
    nlSvg("path", { class: "tc-grid", d: `M${left} ${toY(tick).toFixed(1)}H${right}` }),
    text(left - 6, toY(tick) + 4, "end", tcNumber(tick, 6)),
  ]);
  let taken = -Infinity; // where the label before ends
  const columns = xTicks.flatMap((tick) => {
    const label = axis === "tokens" ? tcCount(tick) : tcNumber(tick, 6);
    const [x, half] = [toX(tick), (TC_LABEL * label.length) / 2 + 3];
    const mark = nlSvg("path", { class: "tc-axis", d: `M${x.toFixed(1)} ${bottom}v4` });
    if (x - half < taken) return [mark];
    taken = x + half;
    return [mark, text(x, bottom + 18, "middle", label)];
  });
  return [
    ...rows,
    nlSvg("path", { class: "tc-axis", d: `M${left} ${TC_TOP - 4}V${bottom}H${right}` }),
    ...columns,
    nlSvg("text", { class: "tc-name", x: 0, y: 14 }, name),
    nlSvg(
      "text",
      { class: "tc-name", x: right, y: bottom + 36, "text-anchor": "end" },
      TC_AXIS_NAMES[axis],
    ),
  ];
}

function tcRunLines({ raw, smooth, points, x }, run, { toX, toY }, trained) {
  // Evaluations alone are connected; beside a training curve they are points.
  const line = trained
    ? tcPath(x, smooth, toX, toY)
    : tcPath(points.map(([at]) => at), points.map(([, value]) => value), toX, toY);
  const known = points.filter(([at, value]) => toX.knows(at) && toY.knows(value));
  const dashes = { "stroke-dasharray": TC_DASHES[run] };
  return nlSvg(
    "g",
    { class: `tc-run-${run}` },
    nlSvg("path", { class: "tc-raw", d: tcPath(x, raw, toX, toY) }),
    nlSvg("path", { class: "tc-line", d: line, ...dashes }),
    ...known.map(([at, value]) => {
      const place = `translate(${toX(at).toFixed(1)} ${toY(value).toFixed(1)})`;
      return nlSvg("path", { class: "tc-mark", d: TC_MARKS[run], transform: place });
    }),
  );
}

/** Horizontal lines with their names at the right, which never stand on each other. */
function tcReferenceLines(references, heights, { toY, left, right }) {
  const lines = references
    .map(([name, value], i) => ({ text: `${name}：${tcNumber(value)}`, y: toY(heights[i]) }))
    .sort((a, b) => a.y - b.y);
  let upper = -Infinity; // the line above
  let taken = -Infinity; // the name above
  return lines.flatMap(({ text, y }) => {
    // Above its line, where the line before leaves the room; otherwise below.
    taken = Math.max(y - upper < 22 ? y + 14 : y - 5, taken + 15);
    upper = y;
    const attributes = { class: "tc-reference-name", x: right - 10, y: taken, "text-anchor": "end" };
    return [
      nlSvg("path", { class: "tc-reference", d: `M${left} ${y.toFixed(1)}H${right}` }),
      nlSvg("text", attributes, text),
    ];
  });
}

/**
 * The chart in its frame. draw({ series, shown, axis, measure, … }) draws all of it, point(…) the
 * cursor alone. onMove(x) gets the value of the axis under the pointer, onKey(event) a key.
 */
function tcChart({ onMove, onKey, onGrab }) {
  const svg = nlSvg("svg", { class: "tc-svg", "aria-hidden": "true" });
  const element = nlElement(
    "div",
    {
      class: "tc-chart",
      role: "slider",
      tabindex: 0,
      "aria-label": "光标在哪一步",
      "data-nl": "chart",
    },
    svg,
  );
  const cursor = nlSvg("g", { class: "tc-cursor", "data-nl": "cursor" });
  let scales = null;
  let drawn = null;

  function draw(what) {
    const { series, shown, references, measure, logX, logY, axis, name, width } = what;
    drawn = what;
    const height = Math.round(Math.max(250, Math.min(390, 0.5 * width)));
    const trained = measure in TC_MEASURES;
    const visible = series.filter((_, run) => shown(run));
    // With no curve there is nothing to compare with, and the sentence below takes the middle.
    const heights = !trained || !visible.length
      ? []
      : references.map(([, value]) => (measure === "perplexity" ? value : Math.log(value)));
    const known = logY ? heights.filter((y) => y > 0) : heights;
    scales = tcScales({ series: visible, heights: known, logX, logY, width, height, axis });
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    const lines = series.map((one, run) => {
      return shown(run) ? [tcRunLines(one, run, scales, trained)] : [];
    });
    svg.replaceChildren(
      ...tcAxes(scales, { axis, name }),
      ...(known.length === heights.length && heights.length
        ? tcReferenceLines(references, heights, scales)
        : []),
      ...lines.flat(),
      cursor,
    );
    if (!visible.length) {
      const attributes = { class: "tc-name", x: width / 2, y: height / 2, "text-anchor": "middle" };
      svg.append(nlSvg("text", attributes, "没有选中任何一条曲线。"));
    }
  }

  /** Put the cursor at x; `current` holds the samples that are shown (their places in the list). */
  function point({ x, text, readings, current }) {
    const { toX, toY, left, right, bottom } = scales;
    const { series, shown, measure } = drawn;
    const at = Math.max(left, Math.min(right, toX.knows(x) ? toX(x) : left));
    const rings = readings.map(({ row, at: evaluated }, run) => {
      const one = series[run];
      const place = measure in TC_MEASURES ? row : evaluated;
      const y = measure in TC_MEASURES ? one.smooth[row] : one.evaluated[evaluated];
      if (!shown(run) || place < 0 || !toX.knows(one.x[place]) || !toY.knows(y ?? null)) return "";
      const [cx, cy] = [toX(one.x[place]).toFixed(1), toY(y).toFixed(1)];
      return nlSvg("circle", { class: `tc-ring tc-run-${run}`, cx, cy, r: 6 });
    });
    const pages = series.flatMap((one, run) => (shown(run) ? one.pages : []));
    const marks = pages.map((page) => {
      const chosen = current.includes(page.index);
      const from = toX.knows(page.x) ? toX(page.x) : left;
      return nlSvg("path", {
        class: chosen ? "tc-page tc-page-current" : "tc-page",
        d: chosen ? "M0-11L6 0H-6Z" : "M0-8L4.5 0H-4.5Z",
        transform: `translate(${from.toFixed(1)} ${bottom})`,
      });
    });
    const half = (12 * text.length) / 2;
    const middle = Math.max(half, Math.min(right + 10 - half, at));
    cursor.replaceChildren(
      ...marks.sort((a, b) => a.classList.length - b.classList.length),
      nlSvg("path", { class: "tc-cursor-line", d: `M${at.toFixed(1)} ${TC_TOP - 6}V${bottom}` }),
      ...rings.filter(Boolean),
      nlSvg(
        "text",
        { class: "tc-cursor-text", x: middle, y: TC_TOP - 10, "text-anchor": "middle" },
        text,
      ),
    );
  }

  /** The value of the axis under a pointer. */
  const valueAt = (event) => {
    const box = svg.getBoundingClientRect();
    const { toX, left, right } = scales;
    const share = (event.clientX - box.left - left) / (right - left);
    const held = Math.max(0, Math.min(1, share));
    return toX.log
      ? Math.exp(Math.log(toX.low) + held * (Math.log(toX.high) - Math.log(toX.low)))
      : toX.low + held * (toX.high - toX.low);
  };
  // A finger may want to scroll the page: it moves the cursor once it goes sideways, or is lifted.
  let grabbed = null;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    grabbed = { x: event.clientX, y: event.clientY, moves: event.pointerType !== "touch" };
    element.setPointerCapture(event.pointerId);
    onGrab();
    if (grabbed.moves) onMove(valueAt(event));
  });
  element.addEventListener("pointermove", (event) => {
    if (!grabbed) return;
    const [across, along] = [event.clientX - grabbed.x, event.clientY - grabbed.y].map(Math.abs);
    grabbed.moves ||= across > 5 && across > along;
    if (grabbed.moves) onMove(valueAt(event));
  });
  element.addEventListener("pointerup", (event) => {
    if (grabbed) onMove(valueAt(event));
    grabbed = null;
  });
  for (const end of ["pointercancel", "lostpointercapture"]) {
    element.addEventListener(end, () => (grabbed = null));
  }
  element.addEventListener("keydown", onKey);
  return { element, draw, point };
}
