// ForwardPass: the arithmetic. No DOM here, so node can hold every number equal to torch.
//
// A "pass" is the walk through one network. Each step has an `op` that says where its values come
// from: `shipped` (float16 in the data block), `literal` (whole numbers such as token ids), or a
// formula over earlier steps. Tensors are {shape, values}, row-major, batch axis first.

export function fpSize(shape) {
  return shape.reduce((product, extent) => product * extent, 1);
}

// PE[p, 2i] = sin(p / base^(2i/d)), PE[p, 2i+1] = cos(same): paper section 3.5.
export function fpSinusoid(rows, width, base) {
  const values = new Float64Array(rows * width);
  for (let p = 0; p < rows; p++) {
    for (let c = 0; c < width; c++) {
      const angle = p / base ** ((c - (c % 2)) / width);
      values[p * width + c] = c % 2 ? Math.cos(angle) : Math.sin(angle);
    }
  }
  return values;
}

// Softmax over rows of `width`; a row with nothing to look at stays 0, never NaN.
export function fpSoftmax(values, width) {
  const out = new Float64Array(values.length);
  for (let start = 0; start < values.length; start += width) {
    out.set(nlSoftmax(values.subarray(start, start + width)), start);
  }
  return out;
}

// y = (x - mean) / sqrt(variance + eps) * weight + bias, with the biased variance; RMSNorm
// leaves out the mean and the bias.
export function fpNorm(values, width, { weight, bias, eps, centred }) {
  const out = new Float64Array(values.length);
  for (let start = 0; start < values.length; start += width) {
    let mean = 0;
    if (centred) {
      for (let c = 0; c < width; c++) mean += values[start + c];
      mean /= width;
    }
    let square = 0;
    for (let c = 0; c < width; c++) square += (values[start + c] - mean) ** 2;
    const scale = 1 / Math.sqrt(square / width + eps);
    for (let c = 0; c < width; c++) {
      out[start + c] = (values[start + c] - mean) * scale * weight[c] + (bias ? bias[c] : 0);
    }
  }
  return out;
}

// scores[h, i, j] = scale * Q[h, i] . K[g, j]; g is the key/value head that query head h shares.
export function fpScores(query, key, scale) {
  const [batch, heads, nQ, width] = query.shape;
  const [, kvHeads, nK] = key.shape;
  const values = new Float64Array(batch * heads * nQ * nK);
  let at = 0;
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const g = b * kvHeads + Math.floor((h * kvHeads) / heads);
      for (let i = 0; i < nQ; i++) {
        const q = ((b * heads + h) * nQ + i) * width;
        for (let j = 0; j < nK; j++) {
          const k = (g * nK + j) * width;
          let dot = 0;
          for (let c = 0; c < width; c++) dot += query.values[q + c] * key.values[k + c];
          values[at++] = dot * scale;
        }
      }
    }
  }
  return values;
}

// heads[h, i] = sum over j of weights[h, i, j] * V[g, j].
export function fpMix(weights, value) {
  const [batch, heads, nQ, nK] = weights.shape;
  const [, kvHeads, , width] = value.shape;
  const values = new Float64Array(batch * heads * nQ * width);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const g = b * kvHeads + Math.floor((h * kvHeads) / heads);
      for (let i = 0; i < nQ; i++) {
        const row = (b * heads + h) * nQ + i;
        for (let j = 0; j < nK; j++) {
          const weight = weights.values[row * nK + j];
          for (let c = 0; c < width; c++) {
            values[row * width + c] += weight * value.values[(g * nK + j) * width + c];
          }
        }
      }
    }
  }
  return values;
}

// (batch, H, n, d) -> (batch, n, H*d): the heads side by side again.
export function fpConcat(heads) {
  const [batch, count, n, width] = heads.shape;
  const values = new Float64Array(heads.values.length);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < count; h++) {
      for (let i = 0; i < n; i++) {
        const from = ((b * count + h) * n + i) * width;
        const to = (b * n + i) * count * width + h * width;
        values.set(heads.values.subarray(from, from + width), to);
      }
    }
  }
  return values;
}

// One formula a kind; `of(k)` is the k-th input tensor, `extra(name)` a shipped parameter.
const FP_OPS = {
  copy: ({ of }) => of(0).values,
  scale: ({ of, op }) => Float64Array.from(of(0).values, (x) => x * op.by),
  add: ({ of }) => Float64Array.from(of(0).values, (x, i) => x + of(1).values[i]),
  relu: ({ of }) => Float64Array.from(of(0).values, (x) => (x > 0 ? x : 0)),
  sinusoid: ({ op, shape }) =>
    fpSinusoid(shape[shape.length - 2], shape[shape.length - 1], op.base),
  scores: ({ of, op }) => fpScores(of(0), of(1), op.by),
  mask: ({ of, op }) => {
    const allowed = op.allowed.flat();
    return Float64Array.from(of(0).values, (x, i) => (allowed[i % allowed.length] ? x : -Infinity));
  },
  softmax: ({ of, shape }) => fpSoftmax(of(0).values, shape[shape.length - 1]),
  mix: ({ of }) => fpMix(of(0), of(1)),
  concat: ({ of }) => fpConcat(of(0)),
  norm: ({ of, op, shape, extra }) =>
    fpNorm(of(0).values, shape[shape.length - 1], {
      weight: extra(op.weight),
      bias: op.bias ? extra(op.bias) : null,
      eps: op.eps,
      centred: op.centred,
    }),
  gather: ({ of, op }) => {
    const width = of(0).shape[of(0).shape.length - 1];
    return Float64Array.from(op.ids, (id, i) => of(0).values[i * width + id]);
  },
  log_gather: ({ of, op }) => {
    const width = of(0).shape[of(0).shape.length - 1];
    return Float64Array.from(op.ids, (id, i) => {
      const row = of(0).values.subarray(i * width, (i + 1) * width);
      const top = nlExtent(row)[1];
      return row[id] - top - Math.log(row.reduce((total, x) => total + Math.exp(x - top), 0));
    });
  },
  sum: ({ of }) => Float64Array.of(of(0).values.reduce((a, b) => a + b, 0)),
  product: ({ of }) => Float64Array.of(of(0).values.reduce((a, b) => a * b, 1)),
};

// The walk itself: `tensor(name, variant)` computes a step (and what it needs) once, then keeps it.
// `data` holds the shipped numbers of all variants, `stride` how many of them one variant takes.
export function fpPass({ steps, tensors, stride, variants, data }) {
  const byName = new Map(steps.map((step, index) => [step.name, { ...step, index }]));
  const kept = new Map();

  function shipped(name, variant) {
    const { at, shape, marks } = tensors[name];
    const start = variant * stride + at;
    const values = data.slice(start, start + fpSize(shape));
    if (marks) {
      // Logits are measured from the one of the right token: float16 is finest near 0.
      const width = shape[shape.length - 1];
      values.forEach((x, i) => (values[i] = x + marks[variant][Math.floor(i / width)]));
    }
    return values;
  }

  function compute(step, variant) {
    const { op, shape } = step;
    if (op.kind === "shipped") return shipped(step.name, variant);
    if (op.kind === "literal") return Float64Array.from(op.values);
    const of = (k) => tensor(op.of[k], variant);
    return FP_OPS[op.kind]({ of, op, shape, extra: (name) => shipped(name, variant) });
  }

  function tensor(name, variant) {
    const key = `${variant} ${name}`;
    if (!kept.has(key)) {
      const step = byName.get(name);
      kept.set(key, { shape: step.shape, values: compute(step, variant) });
    }
    return kept.get(key);
  }

  return { steps, variants, tensor, step: (name) => byName.get(name) };
}

// What keeps the figure from being drawn, as a sentence for the reader, or "" when nothing does.
export function fpComplaint({ steps, tensors, stride, variants, data }) {
  if (!Array.isArray(steps) || !steps.length || !Array.isArray(variants) || !variants.length) {
    return "这幅图没有带来数据：请重新运行这一格，或刷新页面。";
  }
  const need = stride * variants.length;
  if (data.length !== need) {
    return `这幅图的数据不完整（应有 ${need} 个数，实有 ${data.length} 个）：请重新运行这一格，或刷新页面。`;
  }
  const known = new Set(steps.map((step) => step.name));
  for (const { name, op } of steps) {
    const missing =
      op.kind === "shipped"
        ? !tensors[name]
        : op.kind !== "literal" && (!FP_OPS[op.kind] || !op.of.every((input) => known.has(input)));
    if (missing) return `这幅图的数据与程序的版本不合（缺「${name}」）：请重新运行这一格。`;
  }
  return "";
}

// The k largest entries of one row, [{id, value}], ties by the smaller id.
export function fpTop(values, start, width, k) {
  const best = [];
  for (let id = 0; id < width; id++) {
    const value = values[start + id];
    if (best.length === k && value <= best[k - 1].value) continue;
    let place = best.length;
    while (place > 0 && best[place - 1].value < value) place--;
    best.splice(place, 0, { id, value });
    if (best.length > k) best.pop();
  }
  return best;
}

// 1 = the most probable; equal values share the better rank.
export function fpRank(values, start, width, id) {
  let rank = 1;
  for (let c = 0; c < width; c++) if (values[start + c] > values[start + id]) rank++;
  return rank;
}

export function fpStatistics(values) {
  let [low, high, sum, square, count] = [Infinity, -Infinity, 0, 0, 0];
  for (const x of values) {
    if (!Number.isFinite(x)) continue;
    low = Math.min(low, x);
    high = Math.max(high, x);
    sum += x;
    square += x * x;
    count++;
  }
  if (!count) return { low: 0, high: 0, mean: 0, std: 0, count };
  const mean = sum / count;
  return { low, high, mean, std: Math.sqrt(Math.max(0, square / count - mean * mean)), count };
}

// Numbers as the page prints them: `digits` decimals, and where those would leave fewer than two
// significant digits the power of ten spelled out, with `fine` decimals.
export function fpNumber(x, digits = 4, fine = 2) {
  const size = Math.abs(x);
  if (!(size > 0 && size < 10 ** (1 - digits))) return nlNumber(x, digits);
  const [mantissa, power] = size.toExponential(fine).split("e");
  return `${x < 0 ? "−" : ""}${mantissa}×10${nlSuperscript(Number(power))}`;
}

// The same for a narrow cell: three decimals, or the power of ten alone.
export function fpCell(x) {
  const size = Math.abs(x);
  if (size >= 0.0005 || x === 0) return nlNumber(x, size >= 100 ? 1 : 3);
  return fpNumber(x, 4, 0);
}

// Columns of a wide tensor, gathered into at most `most` bins: each bin shows its entry of largest
// size, and `at` says which column that is. Up to `most` columns every bin is one column.
export function fpBins(values, rows, columns, most) {
  const per = Math.ceil(columns / most);
  const bins = Math.ceil(columns / per);
  const out = new Float64Array(rows * bins);
  const at = new Int32Array(rows * bins);
  for (let row = 0; row < rows; row++) {
    for (let bin = 0; bin < bins; bin++) {
      let best = bin * per;
      for (let c = best + 1; c < Math.min(columns, (bin + 1) * per); c++) {
        const [x, top] = [values[row * columns + c], values[row * columns + best]];
        if (Math.abs(x) > Math.abs(top)) best = c;
      }
      out[row * bins + bin] = values[row * columns + best];
      at[row * bins + bin] = best;
    }
  }
  return { values: out, at, bins, per };
}

// "scores = Q Kᵀ / √d_k" -> [{kind: "text" | "variable" | "sub" | "sup", text}], for typesetting:
// one-letter names are variables, what follows `_` or `^` is set low or high. Longer names such as
// `masked_scores` stay as they are.
export function fpFormula(text) {
  const pieces = [];
  const add = (kind, piece) => piece && pieces.push({ kind, text: piece });
  const pattern = /([_^])(?:\{([^}]*)\}|([\p{L}\p{N}′]+))|[\p{L}\p{N}]+(?:_[\p{L}\p{N}]{2,})*/gu;
  let from = 0;
  for (let match = pattern.exec(text); match; match = pattern.exec(text)) {
    add("text", text.slice(from, match.index));
    const whole = match[0];
    if (match[1]) {
      add(match[1] === "_" ? "sub" : "sup", match[2] ?? match[3]);
    } else {
      const base = whole.split("_", 1)[0];
      const kind = /^[A-Za-zα-ω]$/.test(base) ? "variable" : "text";
      // A short base has a subscript; the rest is one long name.
      const piece = base.length <= 2 ? base : whole;
      add(kind, piece);
      pattern.lastIndex = match.index + piece.length;
    }
    from = pattern.lastIndex;
  }
  add("text", text.slice(from));
  return pieces;
}
