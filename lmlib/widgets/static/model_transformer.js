// The shipped models in the page: the encoder–decoder of lmlib.transformer.Transformer.

/** The fields of its config; a field that is not here may change what the model computes. */
const LM_TRANSFORMER_FIELDS = [
  ["vocab_size", "d_model", "num_heads", "d_ff", "num_encoder_layers", "num_decoder_layers"],
  ["max_seq_len", "dropout", "norm_first", "final_norm", "activation", "norm", "norm_eps"],
  ["feed_forward", "positions", "tie_positions", "num_kv_heads", "tie_embeddings"],
  ["scale_embeddings", "norm_embeddings", "bias", "head_bias", "pad_id", "bos_id", "eos_id"],
].flat();

/** What can be computed here of the options that have several values. */
const LM_TRANSFORMER_OPTIONS = {
  activation: Object.keys(LM_ACTIVATIONS),
  norm: ["layernorm", "rmsnorm"],
  feed_forward: ["ffn"],
  positions: ["sinusoidal", "sinusoidal_halves", "learned", "none"],
};

/** The model of a packed one: see `lmNetwork`. */
function lmTransformer(packed, tokenizer) {
  const { config } = packed.manifest;
  lmCheckTransformer(config);
  const net = lmTransformerParts(packed, config);
  const check = (ids, what) => lmCheckIds(ids, what, config);
  return {
    start: (source, options = {}) => lmStart(net, tokenizer, check(source, "源句"), options),
    trace: (source, target) => lmTrace(net, check(source, "源句"), check(target, "目标")),
  };
}

function lmCheckTransformer(config) {
  for (const field of Object.keys(config)) {
    if (LM_TRANSFORMER_FIELDS.includes(field)) continue;
    throw new Error(`网页里的程序还不认识模型设置里的 ${field}。`);
  }
  for (const [field, known] of Object.entries(LM_TRANSFORMER_OPTIONS)) {
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

/** The modules, by the names that they have in lmlib. */
function lmTransformerParts(packed, config) {
  const normed = { eps: config.norm_eps, centred: config.norm === "layernorm" };
  const norm = (path) => {
    const part = packed.norm(path);
    return (x) => lmNorm(part, x, normed);
  };
  const attention = (path) => ({
    ...Object.fromEntries(["W_Q", "W_K", "W_V", "W_O"].map((W) => [W, packed.linear(`${path}.${W}`)])),
    heads: config.num_heads,
    kvHeads: config.num_kv_heads ?? config.num_heads,
  });
  const feedForward = (path) => ({
    W_1: packed.linear(`${path}.W_1`),
    W_2: packed.linear(`${path}.W_2`),
    activation: config.activation,
  });
  const stack = (name, count, kinds) => ({
    name,
    layers: Array.from({ length: count }, (_, i) => {
      const path = `${name}.layers.${i}`;
      const parts = kinds.map((kind, k) => ({
        kind,
        part: (kind === "feed_forward" ? feedForward : attention)(`${path}.${kind}`),
        norm: norm(`${path}.norm_${k + 1}`),
      }));
      return { path, sublayers: parts };
    }),
    norm: packed.has(`${name}.norm.weight`) ? norm(`${name}.norm`) : null,
  });
  const decoded = ["self_attention", "cross_attention", "feed_forward"];
  const embedding = packed.matrix("embedding.weight");
  const stream = (isTarget) => ({
    name: isTarget ? "target" : "source",
    table:
      isTarget && !config.tie_embeddings ? packed.matrix("target_embedding.weight") : embedding,
    positional: lmPositions(packed, config, isTarget && !config.tie_positions),
    norm: config.norm_embeddings
      ? norm(isTarget ? "target_embedding_norm" : "embedding_norm")
      : null,
  });
  return {
    config,
    source: stream(false),
    target: stream(true),
    encoder: stack("encoder", config.num_encoder_layers, ["self_attention", "feed_forward"]),
    decoder: stack("decoder", config.num_decoder_layers, decoded),
    head: {
      weight: config.tie_embeddings ? embedding : packed.matrix("head.weight"),
      bias: config.head_bias ? packed.vector("head.bias") : null,
    },
  };
}

/** position → the row that is added to a token there, or null where none is. */
function lmPositions(packed, { positions, d_model }, ofTarget) {
  if (positions === "none") return null;
  if (positions === "learned") {
    const table = packed.matrix(`${ofTarget ? "target_positions" : "positions"}.weight`);
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

// ---------------------------------------------------------------- the forward pass

/** The rows that go into a stack, of tokens that stand from `offset` on. */
function lmEmbed(net, stream, ids, offset, tap) {
  const { scale_embeddings, d_model } = net.config;
  let rows = ids.map((id) => lmRow(stream.table, id));
  tap("embedding", () => lmTensor(rows));
  if (scale_embeddings) {
    const scaled = rows.map((row) => row.map((x) => x * Math.sqrt(d_model)));
    tap("scaled", () => lmTensor(scaled));
    rows = scaled;
  }
  if (stream.positional) {
    const added = ids.map((_, i) => stream.positional(offset + i));
    tap("positional", () => lmTensor(added));
    rows = rows.map((row, i) => lmAdd(row, added[i]));
  }
  if (stream.norm) {
    const sum = rows;
    tap("sum", () => lmTensor(sum));
    rows = rows.map(stream.norm);
  }
  tap("x", () => lmTensor(rows));
  return rows;
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
  tap(`${stack.name}.norm.output`, () => lmTensor(last));
  return last;
}

/** What the decoder needs of a source, and remembers of the tokens that it has read. */
function lmEncode(net, source, tap) {
  const { pad_id, norm_first, num_decoder_layers } = net.config;
  const isToken = source.map((id) => id !== pad_id); // nobody looks at padding
  const attend = (kind, layer, part, rows, inner) => {
    const around = { memory: rows, cache: lmCache(), mayLook: (i, j) => isToken[j] };
    return lmAttention(part, rows, around, inner).output;
  };
  const x = lmEmbed(net, net.source, source, 0, lmUnder(tap, "source"));
  const memory = lmStack(net.encoder, norm_first, x, attend, tap);
  tap("memory", () => lmTensor(memory));
  const caches = Array.from({ length: num_decoder_layers }, () => ({
    self_attention: lmCache(),
    cross_attention: lmCache(),
  }));
  return { memory, isToken, caches, read: [] };
}

function lmCache() {
  return { keys: [], values: [] };
}

/**
 * The rows of the tokens `ids`, which follow those that `state` has read, and for each layer the
 * cross-attention weights of each head.
 */
function lmDecode(net, state, ids, tap) {
  const { pad_id, bos_id, norm_first } = net.config;
  const past = state.read.length;
  state.read.push(...ids);
  // Where padding and BOS are one token, the first is BOS.
  const isToken = state.read.map((id, j) => id !== pad_id || (j === 0 && pad_id === bos_id));
  const cross = [];
  const attend = (kind, layer, part, rows, inner) => {
    const cache = state.caches[layer][kind];
    const own = kind === "self_attention";
    const around = own
      ? { memory: rows, cache, mayLook: (i, j) => j <= past + i && isToken[j] }
      : {
          memory: cache.keys.length ? [] : state.memory, // it is read once
          cache,
          mayLook: (i, j) => state.isToken[j],
        };
    const { output, weights } = lmAttention(part, rows, around, inner);
    if (!own) cross.push(weights);
    return output;
  };
  const x = lmEmbed(net, net.target, ids, past, lmUnder(tap, "target"));
  return { rows: lmStack(net.decoder, norm_first, x, attend, tap), cross };
}
