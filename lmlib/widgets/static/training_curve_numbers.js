// TrainingCurve: the numbers, the same as lmlib.widgets.training_curve computes. No DOM here.

const TC_MEASURES = { loss: "损失（奈特）", perplexity: "困惑度" };
const TC_AXES = { step: "步", tokens: "词元", seconds: "秒" };
const TC_AXIS_NAMES = {
  step: "训练步数（步）",
  tokens: "读过的词元（个）",
  seconds: "训练用时（秒）",
};
const TC_LOGGED = ["step", "epoch", "tokens", "learning_rate", "loss", "grad_norm", "seconds"];

/** What is wrong with the runs, as a sentence; "" if nothing is. */
export function tcComplaint(runs) {
  if (!Array.isArray(runs) || runs.length === 0) return "这张图没有收到任何训练记录。";
  for (const { name, ...columns } of runs) {
    const { step, loss } = columns;
    if (!step?.length || !loss) return `「${name}」缺少步数或损失。`;
    for (const [column, values] of Object.entries(columns)) {
      if (values.length !== step.length) return `「${name}」的 ${column} 与步数不一样长。`;
      const wrong = values.findIndex((value) => value !== null && !Number.isFinite(value));
      if (wrong >= 0) return `「${name}」第 ${step[wrong]} 步的 ${column} 不是有限的数。`;
    }
    if (loss.every((value) => value === null)) return `「${name}」没有一步记下损失。`;
  }
  return "";
}

/** exp; null stays null, and what is too large becomes Infinity, as in Python. */
export function tcExp(value) {
  if (value === null) return null;
  return value < 709.78 ? Math.exp(value) : Infinity;
}

/** Exponential moving average, its bias corrected; null has none and changes none. */
export function tcSmooth(values, beta) {
  let total = 0;
  let weight = 0; // 1 − βᵗ
  return values.map((value) => {
    if (value === null) return null;
    total = beta * total + (1 - beta) * value;
    weight = beta * weight + (1 - beta);
    return total / weight;
  });
}

/** Where a step lies on the axis: at 0 in the beginning, between rows linear, then as before. */
export function tcPlace(table, axis, wanted) {
  const step = Math.min(wanted, table.step[table.step.length - 1]);
  if (axis === "step") return step;
  let beforeStep = 0;
  let before = 0;
  for (let i = 0; i < table.step.length; i++) {
    const [at, value] = [table.step[i], table[axis][i]];
    if (value === null) continue;
    if (at >= step) {
      const share = at > beforeStep ? (step - beforeStep) / (at - beforeStep) : 1;
      return before + share * (value - before);
    }
    [beforeStep, before] = [at, value];
  }
  return (before * step) / Math.max(beforeStep, 1); // behind the last one known, at the mean pace
}

/** The first of the places nearest to the cursor that have a value; −1 if none has. */
export function tcNearest(places, values, cursor) {
  let best = -1;
  let least = Infinity;
  places.forEach((place, i) => {
    if (values[i] === null || values[i] === undefined) return;
    if (Math.abs(place - cursor) >= least) return;
    least = Math.abs(place - cursor);
    best = i;
  });
  return best;
}

/**
 * What every run shows, on the chosen axis and in the chosen measure; only loss and perplexity
 * have a training curve. state: { runs, samples, measure, axis, smoothing }.
 */
export function tcSeries({ runs, samples, measure, axis, smoothing }) {
  const trained = measure in TC_MEASURES;
  const measured = measure === "perplexity" ? (values) => values.map(tcExp) : (values) => values;
  return runs.map((table, number) => {
    const nothing = table.step.map(() => null);
    const x = table.step.map((step) => tcPlace(table, axis, step));
    const losses = trained ? table.loss : nothing;
    const smoothLoss = tcSmooth(table.loss, smoothing);
    const evaluated = measured(table[trained ? "validation_loss" : measure] ?? nothing);
    return {
      table,
      x,
      raw: measured(losses),
      smooth: trained ? measured(smoothLoss) : nothing,
      smoothLoss,
      evaluated,
      points: x.map((at, i) => [at, evaluated[i]]).filter(([, value]) => value !== null),
      pages: samples
        .map((page, index) => ({ ...page, index }))
        .filter((page) => page.run === number)
        .map((page) => ({ ...page, x: tcPlace(table, axis, page.step) })),
    };
  });
}

/** What each run shows at the cursor: its nearest row with a loss, evaluation and sample. */
export function tcReadings(series, cursor) {
  return series.map(({ table, x, smoothLoss, evaluated, pages }) => {
    const row = tcNearest(x, table.loss, cursor);
    const at = tcNearest(x, evaluated, cursor);
    const places = pages.map((page) => page.x);
    const reading = Object.fromEntries(
      TC_LOGGED.map((column) => [column, table[column]?.[row] ?? null]),
    );
    return {
      ...reading,
      perplexity: tcExp(reading.loss),
      smooth: smoothLoss[row] ?? null,
      validation: at < 0 ? null : evaluated[at],
      validation_step: at < 0 ? null : table.step[at],
      sample: pages[tcNearest(places, places, cursor)]?.index ?? null,
      row,
      at,
    };
  });
}

/** Where the cursor may stand, { x, run, step, sample }, from left to right, each place once. */
export function tcStops(series, isShown) {
  const stops = new Map();
  series.forEach(({ table, x, pages }, run) => {
    if (!isShown(run)) return;
    const add = (at, step, sample) => {
      const found = stops.get(at);
      if (found) found.sample ||= sample;
      else stops.set(at, { x: at, run, step, sample });
    };
    x.forEach((at, i) => add(at, table.step[i], false));
    for (const page of pages) add(page.x, page.step, true);
  });
  return [...stops.values()].sort((a, b) => a.x - b.x);
}

// ---------------------------------------------------------------- scales and texts

/** A map from values to pixels; a logarithmic one knows only what is above 0. */
export function tcScale(low, high, log, from, to) {
  const bend = log ? Math.log : (value) => value;
  const [first, last] = [bend(low), bend(high)];
  const scale = (value) => from + ((bend(value) - first) / (last - first)) * (to - from);
  scale.knows = (value) => value !== null && Number.isFinite(value) && (!log || value > 0);
  return Object.assign(scale, { low, high, log });
}

/** Smallest and largest of what an axis shows, with some room around; never the same. */
export function tcRange(values, log, room) {
  const known = values.filter((v) => v !== null && Number.isFinite(v) && (!log || v > 0));
  if (!known.length) return log ? [1, 10] : [0, 1];
  const [low, high] = nlExtent(known);
  const same = high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high)); // but for rounding
  if (log) {
    if (same) return [low / 2, high * 2];
    const more = (high / low) ** room;
    return [low / more, high * more];
  }
  if (same) {
    const half = Math.abs(low) / 2 || 0.5;
    return [low - half, high + half];
  }
  const more = room * (high - low);
  return [low - more, high + more];
}

/** Round numbers within [low, high], about `most` of them. */
export function tcTicks(low, high, log, most) {
  if (log) {
    let known = [];
    for (const digits of [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 5], [1, 3], [1]]) {
      const ticks = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
        ticks.push(...digits.map((digit) => Number(`${digit}e${power}`)));
      }
      const inside = ticks.filter((tick) => tick >= low && tick <= high);
      if (inside.length < 3) break;
      known = inside;
      if (known.length <= most + 1) return known;
    }
    const every = Math.ceil(known.length / most);
    if (known.length) return known.filter((_, i) => i % every === 0);
    // A way too short for powers of ten: as on a linear axis.
  }
  const rough = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
}

/** A number for reading, `digits` of it significant: 4.038, 56.75, 5.13×10⁻⁵. */
export function tcNumber(value, digits = 4) {
  if (value === null) return "—";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  let text = String(Number(size.toPrecision(digits)));
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) {
    const [mantissa, power] = size.toExponential(digits - 1).split("e");
    text = `${Number(mantissa)}×10${nlSuperscript(Number(power))}`;
  }
  return value < 0 ? `−${text}` : text;
}

/** How many: 7083, 15.5 万, 1870 万. */
export function tcCount(value) {
  if (value === null) return "—";
  if (value >= 1e8) return `${Number((value / 1e8).toPrecision(4))} 亿`;
  if (value >= 1e4) return `${Number((value / 1e4).toPrecision(4))} 万`;
  return String(Math.round(value));
}

/** How long: 38 秒, 67 分 25 秒, 2 小时 5 分. */
export function tcDuration(seconds) {
  if (seconds === null) return "—";
  if (seconds < 60) return `${Number(seconds.toPrecision(3))} 秒`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} 分 ${whole % 60} 秒`;
  return `${Math.floor(whole / 3600)} 小时 ${Math.floor((whole % 3600) / 60)} 分`;
}

/** A place on the axis in words. */
export function tcPlaceText(axis, value) {
  if (axis === "step") return `第 ${Math.round(value)} 步`;
  return axis === "tokens" ? `${tcCount(value)}词元` : tcDuration(value);
}

/** The Chinese name of a measure. */
export function tcMeasureText(measure, labels) {
  return TC_MEASURES[measure] ?? labels[measure] ?? `验证 ${measure.slice("validation_".length)}`;
}
