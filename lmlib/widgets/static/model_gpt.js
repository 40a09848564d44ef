// The shipped models in the page: lmlib.gpt.GPT, which continues a text token by token.

/** The fields of its config; a field that is not here may change what the model computes. */
const LM_GPT_FIELDS = [
  ["vocab_size", "max_seq_len", "d_model", "num_layers", "num_heads", "num_kv_heads", "d_head"],
  ["d_ff", "dropout", "norm_first", "positions", "rotary_base", "norm", "norm_eps"],
  ["feed_forward", "activation", "tie_embeddings", "bias", "qkv_bias"],
  ["bos_id", "eos_id", "pad_id"],
].flat();

/** The model of a packed one: see `lmNetwork`. */
function lmGPT(packed) {
  const { config } = packed.manifest;
  lmCheckConfig(config, LM_GPT_FIELDS, {
    activation: Object.keys(LM_ACTIVATIONS),
    norm: ["layernorm", "rmsnorm"],
    feed_forward: ["ffn", "swiglu"],
    positions: ["learned", "rotary", "sinusoidal", "none"],
  });
  const net = lmGPTParts(packed, config);
  return { write: (prompt) => lmWrite(net, lmCheckIds(prompt, "开头", config)) };
}

/** The modules, by the names that they have in lmlib. */
function lmGPTParts(packed, config) {
  const { num_layers: count, num_heads, d_model, d_head, rotary_base } = config;
  const kinds = ["self_attention", "feed_forward"];
  const stack = lmStackParts(packed, config, { prefix: "", count, kinds });
  if (config.positions === "rotary") {
    const turn = lmRotary(d_head ?? d_model / num_heads, rotary_base);
    for (const { sublayers } of stack.layers) sublayers[0].part.turn = turn;
  }
  const embedding = packed.matrix("embedding.weight");
  return {
    config,
    stack,
    embedding,
    positional: lmPositions(packed, config, "positions"),
    head: { weight: config.tie_embeddings ? embedding : packed.matrix("head.weight"), bias: null },
  };
}

/**
 * Reads a prompt and gets ready to continue it: `logits` are those of the next token, and
 * attention[layer][head] says how much the last token looks at each token up to itself. `push(id)`
 * appends a token and computes both anew, until the context is `full`.
 */
function lmWrite(net, prompt) {
  const { vocab_size, max_seq_len } = net.config;
  const caches = net.stack.layers.map(lmCache);
  const run = {
    ids: [],
    logits: null,
    attention: null,
    get full() {
      return run.ids.length >= max_seq_len;
    },
    push(id) {
      if (run.full) throw new Error(`写满了：这个模型最多读 ${max_seq_len} 个词元。`);
      read([lmCheckedId(id, vocab_size)]);
    },
  };
  function read(ids) {
    const past = run.ids.length;
    run.ids.push(...ids);
    Object.assign(run, lmContinue(net, caches, ids, past));
  }
  read(prompt);
  return run;
}

/** The logits behind the last of `ids`, which stand from `past` on, and where it looks. */
function lmContinue(net, caches, ids, past) {
  const attention = [];
  const attend = (kind, layer, part, rows, tap) => {
    const around = { memory: rows, cache: caches[layer], mayLook: (i, j) => j <= past + i };
    const { output, weights } = lmAttention(part, rows, around, tap);
    attention.push(weights.map((row) => row.slice(-(past + ids.length)))); // of the last query
    return output;
  };
  const x = ids.map((id, i) => {
    const row = lmRow(net.embedding, id);
    return net.positional ? lmAdd(row, net.positional(past + i)) : row;
  });
  const rows = lmStack(net.stack, net.config.norm_first, x, attend, lmNoTap);
  return { logits: lmLinear(net.head, rows[rows.length - 1]), attention };
}
