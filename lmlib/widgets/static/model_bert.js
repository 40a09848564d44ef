// The shipped models in the page: lmlib.bert.BertForPreTraining, which reads both ways.

/** The fields of its config; a field that is not here may change what the model computes. */
const LM_BERT_FIELDS = [
  ["vocab_size", "d_model", "num_layers", "num_heads", "d_ff", "max_seq_len", "num_segments"],
  ["dropout", "norm_eps", "activation", "pad_id", "cls_id", "sep_id", "mask_id"],
].flat();

/** The model of a packed one: see `lmNetwork`. */
function lmBert(packed) {
  const { config } = packed.manifest;
  lmCheckConfig(config, LM_BERT_FIELDS, { activation: Object.keys(LM_ACTIVATIONS) });
  const net = lmBertParts(packed, config);
  return {
    read(ids, segments = null) {
      const list = lmCheckIds(ids, "句子", config);
      return lmRead(net, list, lmCheckSegments(segments, list.length, config));
    },
  };
}

/** The segment of each token: all 0 where none are given. */
function lmCheckSegments(segments, length, { num_segments }) {
  if (segments === null) return Array(length).fill(0);
  const list = Array.from(segments);
  if (!num_segments) throw new Error("这个模型不分句段：请不要给出句段编号。");
  if (list.length !== length) {
    throw new Error(`句段编号要和词元一样多：词元有 ${length} 个，句段编号有 ${list.length} 个。`);
  }
  for (const segment of list) {
    if (Number.isInteger(segment) && segment >= 0 && segment < num_segments) continue;
    throw new Error(`句段编号必须是 0 到 ${num_segments - 1} 的整数，收到 ${segment}。`);
  }
  return list;
}

/** The modules, by the names that they have in lmlib. */
function lmBertParts(packed, config) {
  const norm = lmNormMaker(packed, config);
  const kinds = ["self_attention", "feed_forward"];
  const embedding = packed.matrix("bert.embedding.weight");
  return {
    config,
    embedding,
    segments: config.num_segments ? packed.matrix("bert.segment_embedding.weight") : null,
    positions: packed.matrix("bert.positions.weight"),
    norm: norm("bert.embedding_norm"),
    stack: lmStackParts(packed, config, { prefix: "bert.", count: config.num_layers, kinds }),
    pooler: packed.linear("bert.pooler"),
    dense: packed.linear("mlm_dense"),
    denseNorm: norm("mlm_norm"),
    head: { weight: embedding, bias: packed.vector("mlm_head.bias") },
    nsp: packed.linear("nsp_head"),
  };
}

/**
 * What the network makes of a text: attention[layer][head], n × n query by query; the logits of
 * the character at a position, which are computed when asked for; and the probabilities that
 * sentence B follows A, and that it is a random one.
 */
function lmRead(net, ids, segments) {
  const isToken = ids.map((id) => id !== net.config.pad_id); // nobody looks at padding
  const attention = [];
  const attend = (kind, layer, part, rows, tap) => {
    const around = { memory: rows, cache: lmCache(), mayLook: (i, j) => isToken[j] };
    const { output, weights } = lmAttention(part, rows, around, tap);
    attention.push(weights);
    return output;
  };
  const x = ids.map((id, i) => {
    const token = lmRow(net.embedding, id);
    const kind = net.segments ? lmAdd(token, lmRow(net.segments, segments[i])) : token;
    return net.norm(lmAdd(kind, lmRow(net.positions, i)));
  });
  const rows = lmStack(net.stack, false, x, attend, lmNoTap);
  const pooled = lmLinear(net.pooler, rows[0]).map(Math.tanh);
  return {
    ids,
    attention,
    logits(position) {
      const row = rows[lmCheckedPlace(position, ids.length)];
      const dense = lmLinear(net.dense, row).map(LM_ACTIVATIONS[net.config.activation]);
      return lmLinear(net.head, net.denseNorm(dense));
    },
    nsp: Array.from(nlSoftmax(lmLinear(net.nsp, pooled))),
  };
}

function lmCheckedPlace(position, length) {
  if (Number.isInteger(position) && position >= 0 && position < length) return position;
  throw new Error(`位置必须是 0 到 ${length - 1} 的整数，收到 ${position}。`);
}
