// The shipped models in the page: the layers. A sequence is a list of rows, one Float32Array for
// each token; sums run in float64. A function that takes a `tap` hands each of its tensors to it,
// as tap(name, make): `make()` gives { shape, values } under the name of lmlib.trace.

/** A tap for those who want no tensors. */
const lmNoTap = () => {};

/** A tap that puts `path` in front of each name. */
function lmUnder(tap, path) {
  return tap === lmNoTap ? tap : (name, make) => tap(`${path}.${name}`, make);
}

/** Rows of one width as a tensor of shape (1, n, width). */
function lmTensor(rows) {
  const width = rows[0].length;
  const values = new Float32Array(rows.length * width);
  rows.forEach((row, i) => values.set(row, i * width));
  return { shape: [1, rows.length, width], values };
}

/** Rows in which the heads stand side by side as a tensor of shape (1, heads, n, d_head). */
function lmHeadsTensor(rows, heads) {
  const dHead = rows[0].length / heads;
  const values = new Float32Array(rows.length * rows[0].length);
  for (let h = 0; h < heads; h++) {
    rows.forEach((row, i) => {
      values.set(row.subarray(h * dHead, (h + 1) * dHead), (h * rows.length + i) * dHead);
    });
  }
  return { shape: [1, heads, rows.length, dHead], values };
}

// ---------------------------------------------------------------- for each token by itself

/** x Wᵀ + b: (columns,) → (rows,). */
function lmLinear({ weight, bias }, x) {
  const { rows, columns, numbers, scales } = weight;
  const y = new Float32Array(rows);
  let i = 0;
  for (; i + 3 < rows; i += 4) {
    // Four rows at once take half the time of one after the other.
    let a = 0;
    let b = 0;
    let c = 0;
    let d = 0;
    const first = i * columns;
    const [second, third, fourth] = [first + columns, first + 2 * columns, first + 3 * columns];
    for (let j = 0; j < columns; j++) {
      const factor = x[j];
      a += numbers[first + j] * factor;
      b += numbers[second + j] * factor;
      c += numbers[third + j] * factor;
      d += numbers[fourth + j] * factor;
    }
    y[i] = a;
    y[i + 1] = b;
    y[i + 2] = c;
    y[i + 3] = d;
  }
  for (; i < rows; i++) {
    for (let j = 0; j < columns; j++) y[i] += numbers[i * columns + j] * x[j];
  }
  for (i = 0; i < rows; i++) y[i] = y[i] * (scales ? scales[i] : 1) + (bias ? bias[i] : 0);
  return y;
}

/** Row `id` of a matrix. */
function lmRow({ columns, numbers, scales }, id) {
  const scale = scales ? scales[id] : 1;
  const row = Float32Array.from(numbers.subarray(id * columns, (id + 1) * columns));
  return row.map((number) => number * scale);
}

function lmAdd(x, y) {
  return x.map((number, i) => number + y[i]);
}

/** LayerNorm (biased variance, ε inside the root), or RMSNorm if not `centred`. */
function lmNorm({ weight, bias }, x, { eps, centred }) {
  const width = x.length;
  let mean = 0;
  if (centred) for (let j = 0; j < width; j++) mean += x[j] / width;
  let square = 0;
  for (let j = 0; j < width; j++) square += (x[j] - mean) ** 2;
  const scale = 1 / Math.sqrt(square / width + eps);
  return x.map((number, j) => (number - mean) * scale * weight[j] + (bias ? bias[j] : 0));
}

/** The error function by its series (Abramowitz & Stegun, 7.1.6), to the last digits. */
function lmErf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let [term, sum] = [x, x];
  for (let n = 1; Math.abs(term) > 1e-16 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** The activations of lmlib.layers.FeedForward by name. */
const LM_ACTIVATIONS = {
  relu: (x) => (x > 0 ? x : 0),
  gelu: (x) => 0.5 * x * (1 + lmErf(x * Math.SQRT1_2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  silu: (x) => x / (1 + Math.exp(-x)),
};

/** activation(x W_1 + b_1) W_2 + b_2 of each row; or (SiLU(x W_gate) ⊙ x W_up) W_down. */
function lmFeedForward(part, rows, tap) {
  if (part.W_gate) return lmSwiGLU(part, rows, tap);
  const { W_1, W_2, activation } = part;
  const before = rows.map((x) => lmLinear(W_1, x));
  tap("pre_activation", () => lmTensor(before));
  const hidden = before.map((x) => x.map(LM_ACTIVATIONS[activation]));
  tap("hidden", () => lmTensor(hidden));
  const output = hidden.map((x) => lmLinear(W_2, x));
  tap("output", () => lmTensor(output));
  return output;
}

function lmSwiGLU({ W_gate, W_up, W_down }, rows, tap) {
  const gate = rows.map((x) => lmLinear(W_gate, x));
  tap("gate", () => lmTensor(gate));
  const up = rows.map((x) => lmLinear(W_up, x));
  tap("up", () => lmTensor(up));
  const hidden = gate.map((row, i) => row.map((x, j) => LM_ACTIVATIONS.silu(x) * up[i][j]));
  tap("hidden", () => lmTensor(hidden));
  const output = hidden.map((x) => lmLinear(W_down, x));
  tap("output", () => lmTensor(output));
  return output;
}

// ---------------------------------------------------------------- attention

/**
 * softmax(Q Kᵀ / √d_head) V, heads side by side; neighbouring query heads share a key/value head.
 * `mayLook(i, j)` says whether query i may look at key j; one that may look at nothing gets zeros.
 * Returns { rows, weights }: weights[h] is a Float32Array, query by query.
 */
function lmDotProduct({ queries, keys, values, heads, kvHeads, mayLook, tap }) {
  const [nQ, nK, width] = [queries.length, keys.length, queries[0].length];
  const dHead = width / heads;
  const scores = new Float32Array(heads * nQ * nK);
  let hidden = false;
  for (let h = 0, at = 0; h < heads; h++) {
    const shared = Math.floor((h * kvHeads) / heads) * dHead;
    for (let i = 0; i < nQ; i++) {
      for (let j = 0; j < nK; j++) {
        let dot = 0;
        for (let c = 0; c < dHead; c++) dot += queries[i][h * dHead + c] * keys[j][shared + c];
        scores[at++] = dot / Math.sqrt(dHead);
        hidden ||= !mayLook(i, j);
      }
    }
  }
  const tensor = (numbers) => ({ shape: [1, heads, nQ, nK], values: numbers });
  tap("scores", () => tensor(scores));
  const masked = hidden
    ? scores.map((x, at) => (mayLook(Math.floor(at / nK) % nQ, at % nK) ? x : -Infinity))
    : scores;
  if (hidden) tap("masked_scores", () => tensor(masked));
  const weights = new Float32Array(scores.length);
  for (let at = 0; at < weights.length; at += nK) {
    weights.set(nlSoftmax(masked.subarray(at, at + nK)), at);
  }
  tap("weights", () => tensor(weights));
  const rows = queries.map((_, i) => lmMixed({ weights, values, heads, kvHeads, width, nQ, nK }, i));
  tap("heads", () => lmHeadsTensor(rows, heads));
  const ofHead = (_, h) => weights.subarray(h * nQ * nK, (h + 1) * nQ * nK);
  return { rows, weights: Array.from({ length: heads }, ofHead) };
}

/** Σ_j weights[h, i, j] · values[j], of all heads h side by side. */
function lmMixed({ weights, values, heads, kvHeads, width, nQ, nK }, i) {
  const dHead = width / heads;
  const row = new Float64Array(width);
  for (let h = 0; h < heads; h++) {
    const shared = Math.floor((h * kvHeads) / heads) * dHead;
    for (let j = 0; j < nK; j++) {
      const weight = weights[(h * nQ + i) * nK + j];
      for (let c = 0; c < dHead; c++) row[h * dHead + c] += weight * values[j][shared + c];
    }
  }
  return Float32Array.from(row);
}

/**
 * Multi-head attention. `part` is { W_Q, W_K, W_V, W_O, heads, kvHeads, turn }; the keys and values
 * of `memory` are appended to `cache`, and the queries look at all that it holds. With `turn`
 * (see `lmRotary`) queries and memory are the same tokens, behind those that the cache has.
 */
function lmAttention(part, queries, { memory, cache, mayLook }, tap) {
  const { heads, kvHeads } = part;
  const past = cache.keys.length;
  const turned = (row, i) => (part.turn ? part.turn(row, past + i) : row);
  const projected = queries.map((x, i) => turned(lmLinear(part.W_Q, x), i));
  memory.forEach((x, i) => {
    cache.keys.push(turned(lmLinear(part.W_K, x), i));
    cache.values.push(lmLinear(part.W_V, x));
  });
  const { keys, values } = cache;
  tap("Q", () => lmHeadsTensor(projected, heads));
  tap("K", () => lmHeadsTensor(keys, kvHeads));
  tap("V", () => lmHeadsTensor(values, kvHeads));
  const attended = { queries: projected, keys, values, heads, kvHeads, mayLook, tap };
  const { rows, weights } = lmDotProduct(attended);
  tap("concat", () => lmTensor(rows));
  const output = rows.map((x) => lmLinear(part.W_O, x));
  tap("output", () => lmTensor(output));
  return { output, weights };
}
