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
  lmCheckConfig(config, LM_TRANSFORMER_FIELDS, LM_TRANSFORMER_OPTIONS);
  const net = lmTransformerParts(packed, config);
  const check = (ids, what) => lmCheckIds(ids, what, config);
  return {
    start: (source, options = {}) => lmStart(net, tokenizer, check(source, "源句"), options),
    trace: (source, target) => lmTrace(net, check(source, "源句"), check(target, "目标")),
  };
}

/** The modules, by the names that they have in lmlib. */
function lmTransformerParts(packed, config) {
  const norm = lmNormMaker(packed, config);
  const [ofSelf, ofSource, forward] = ["self_attention", "cross_attention", "feed_forward"];
  const stack = (prefix, count, kinds) => lmStackParts(packed, config, { prefix, count, kinds });
  const tables = (isTarget) => (isTarget && !config.tie_positions ? "target_positions" : "positions");
  const embedding = packed.matrix("embedding.weight");
  const stream = (isTarget) => ({
    name: isTarget ? "target" : "source",
    table:
      isTarget && !config.tie_embeddings ? packed.matrix("target_embedding.weight") : embedding,
    positional: lmPositions(packed, config, tables(isTarget)),
    norm: config.norm_embeddings
      ? norm(isTarget ? "target_embedding_norm" : "embedding_norm")
      : null,
  });
  return {
    config,
    source: stream(false),
    target: stream(true),
    encoder: stack("encoder.", config.num_encoder_layers, [ofSelf, forward]),
    decoder: stack("decoder.", config.num_decoder_layers, [ofSelf, ofSource, forward]),
    head: {
      weight: config.tie_embeddings ? embedding : packed.matrix("head.weight"),
      bias: config.head_bias ? packed.vector("head.bias") : null,
    },
  };
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
