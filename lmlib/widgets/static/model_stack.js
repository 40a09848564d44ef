// The shipped models in the page: what they have in common. Their modules by the names of lmlib,
// positions, and a stack of layers.

// ---------------------------------------------------------------- what can be computed

/**
 * Throws unless `config` has the fields `fields` alone (another one may change what the model
 * computes), and of the fields in `options` one of the values given there.
 */
function lmCheckConfig(config, fields, options) {
  for (const field of Object.keys(config)) {
    if (fields.includes(field)) continue;
    throw new Error(`网页里的程序还不认识模型设置里的 ${field}。`);
  }
  for (const [field, known] of Object.entries(options)) {
    if (known.includes(config[field])) continue;
    throw new Error(`网页里的程序还不会算 ${field} = "${config[field]}" 的模型。`);
  }
}

/** Token ids that the model can read, as a plain list. */
function lmCheckIds(ids, what, { vocab_size, max_seq_len }) {
  const list = Array.from(ids ?? []);
  if (!list.length) throw new Error(`${what}是空的：至少要有一个词元。`);
  if (list.length > max_seq_len) {
    const length = `${what}有 ${list.length} 个词元`;
    throw new Error(`${length}，这个模型最多读 ${max_seq_len} 个：请缩短一些。`);
  }
  for (const id of list) lmCheckedId(id, vocab_size);
  return list;
}

// ---------------------------------------------------------------- modules

/** A function that makes the norm at a path: row → row. */
function lmNormMaker(packed, { norm = "layernorm", norm_eps }) {
  const options = { eps: norm_eps, centred: norm === "layernorm" };
  return (path) => {
    const part = packed.norm(path);
    return (x) => lmNorm(part, x, options);
  };
}

function lmAttentionPart(packed, config, path) {
  const { num_heads: heads, num_kv_heads } = config;
  const [W_Q, W_K, W_V, W_O] = ["Q", "K", "V", "O"].map((W) => packed.linear(`${path}.W_${W}`));
  return { W_Q, W_K, W_V, W_O, heads, kvHeads: num_kv_heads ?? heads, turn: null };
}

function lmFeedForwardPart(packed, config, path) {
  const names = config.feed_forward === "swiglu" ? ["W_gate", "W_up", "W_down"] : ["W_1", "W_2"];
  const maps = Object.fromEntries(names.map((W) => [W, packed.linear(`${path}.${W}`)]));
  return { ...maps, activation: config.activation };
}

/**
 * `count` layers of the sublayers `kinds`, and the final norm where there is one. `prefix` stands
 * in front of their names: "", or a path that ends with a dot.
 */
function lmStackParts(packed, config, { prefix, count, kinds }) {
  const norm = lmNormMaker(packed, config);
  const layers = Array.from({ length: count }, (_, i) => {
    const path = `${prefix}layers.${i}`;
    const sublayers = kinds.map((kind, k) => {
      const make = kind === "feed_forward" ? lmFeedForwardPart : lmAttentionPart;
      const part = make(packed, config, `${path}.${kind}`);
      return { kind, part, norm: norm(`${path}.norm_${k + 1}`) };
    });
    return { path, sublayers };
  });
  const last = `${prefix}norm`;
  return { layers, last, norm: packed.has(`${last}.weight`) ? norm(last) : null };
}

// ---------------------------------------------------------------- positions

/**
 * position → the row that is added to a token there, or null where none is; `path` is that of
 * learned positions.
 */
function lmPositions(packed, { positions, d_model }, path) {
  if (positions === "none" || positions === "rotary") return null;
  if (positions === "learned") {
    const table = packed.matrix(`${path}.weight`);
    return (position) => lmRow(table, position);
  }
  return (position) => lmSinusoids(position, d_model, positions === "sinusoidal");
}

/** sin and cos of position / 10000^(2i / d): side by side, or all sines in front of all cosines. */
function lmSinusoids(position, d, interleaved) {
  const half = Math.ceil(d / 2);
  return Float32Array.from({ length: d }, (_, column) => {
    const i = interleaved ? column >> 1 : column % half;
    const angle = position * 10000 ** ((-2 * i) / d);
    return (interleaved ? column % 2 : column >= half) ? Math.cos(angle) : Math.sin(angle);
  });
}

/**
 * (row, position) → the row with each head turned: coordinates i and i + width / 2 of a head are
 * a pair, which turns by position / base^(2i / width).
 */
function lmRotary(width, base) {
  const half = width / 2;
  const turns = Float64Array.from({ length: half }, (_, i) => base ** ((-2 * i) / width));
  return (row, position) => {
    const turned = new Float32Array(row.length);
    for (let i = 0; i < half; i++) {
      const cos = Math.cos(position * turns[i]);
      const sin = Math.sin(position * turns[i]);
      for (let at = i; at < row.length; at += width) {
        const [a, b] = [row[at], row[at + half]];
        turned[at] = a * cos - b * sin;
        turned[at + half] = a * sin + b * cos;
      }
    }
    return turned;
  };
}

// ---------------------------------------------------------------- a stack

/** The keys and values of an attention, row by row, in the order in which they were read. */
function lmCache() {
  return { keys: [], values: [] };
}

/**
 * Rows through the layers of a stack. `attend(kind, layer, part, rows, tap)` is its attention;
 * norms stand in front of each sublayer (pre-norm) or behind each sum (post-norm).
 */
function lmStack(stack, normFirst, rows, attend, tap) {
  let x = rows;
  stack.layers.forEach(({ path, sublayers }, layer) => {
    sublayers.forEach(({ kind, part, norm }, k) => {
      const inner = lmUnder(tap, path);
      const normed = (input) => {
        const output = input.map(norm);
        inner(`norm_${k + 1}.output`, () => lmTensor(output));
        return output;
      };
      const input = normFirst ? normed(x) : x;
      const deeper = lmUnder(inner, kind);
      const output =
        kind === "feed_forward"
          ? lmFeedForward(part, input, deeper)
          : attend(kind, layer, part, input, deeper);
      const sum = x.map((row, i) => lmAdd(row, output[i]));
      inner(`residual_${k + 1}`, () => lmTensor(sum));
      x = normFirst ? sum : normed(sum);
    });
  });
  if (!stack.norm) return x;
  const last = x.map(stack.norm);
  tap(`${stack.last}.output`, () => lmTensor(last));
  return last;
}
