// NGramExplorer: the counts, unpacked from their bits (lmlib/widgets/_ngram_explorer.py writes
// and explains them), and the probabilities that lmlib.ngram makes of them.

/** Reads codes from bytes, the highest bit of each first. */
function ngBits(bytes) {
  let at = 0;
  const number = (width) => {
    let value = 0;
    for (let i = 0; i < width; i++, at++) {
      value = 2 * value + ((bytes[at >> 3] >> (7 - (at & 7))) & 1);
    }
    return value;
  };
  const gamma = () => {
    let zeros = 0;
    while (number(1) === 0) if (++zeros > 52) throw new Error("ngram_explorer: counts are damaged");
    return 2 ** zeros + number(zeros);
  };
  const below = (size) => {
    const width = 31 - Math.clz32(size); // ⌊log₂ size⌋
    const short = 2 ** (width + 1) - size;
    const value = number(width);
    return value < short ? value : 2 * value + number(1) - short;
  };
  /** `count` increasing values from `low` to `high` into `into`, from `start` on. */
  const sorted = (into, start, count, low, high) => {
    if (count === 0) return;
    const middle = count >> 1;
    const value = low + middle + below(high - low - count + 2);
    into[start + middle] = value;
    sorted(into, start, middle, low, value - 1);
    sorted(into, start + middle + 1, count - middle - 1, value + 1, high);
  };
  return { gamma, sorted };
}

/** For each context the sum of what its k-grams are worth: c(h •) of the formulas. */
function ngTotals({ starts }, values) {
  const totals = new Float64Array(starts.length - 1);
  for (let context = 0; context < totals.length; context++) {
    for (let i = starts[context]; i < starts[context + 1]; i++) totals[context] += values[i];
  }
  return totals;
}

/**
 * Bytes → the tables of lmlib.ngram: `levels[k]` holds of every k-gram its last token, the number
 * of the (k − 1)-gram that it ends in, its count and (k < order) how many tokens stand in front of
 * it; and for context j, a (k − 1)-gram, where its followers are: starts[j] … starts[j + 1].
 */
export function ngUnpack(view, shape) {
  const { order, vocab_size: vocabSize, num_ngrams: sizes, bos_id: bos, eos_id: eos } = shape;
  const bits = ngBits(nlUint8(view));
  const levels = [null];
  for (let k = 1; k <= order; k++) {
    const size = sizes[k - 1];
    const below = levels[k - 1];
    const contexts = k === 1 ? 1 : below.size + 1; // all BOS is the last one
    const end = new Int32Array(size);
    const starts = new Int32Array(contexts + 1);
    let at = 0;
    for (let context = 0; context < contexts; context++) {
      starts[context] = at;
      const allBos = k > 1 && context === below.size;
      if (k > 1 && !allBos && below.token[context] === eos) continue; // nothing follows
      let [first, stop] = [0, vocabSize];
      if (k > 1) {
        const shorter = k === 2 ? 0 : allBos ? levels[k - 2].size : below.end[context];
        [first, stop] = [below.starts[shorter], below.starts[shorter + 1]];
      }
      const count = bits.gamma();
      bits.sorted(end, at, count, first, stop - 1);
      at += count;
    }
    starts[contexts] = at;
    if (at !== size) throw new Error("ngram_explorer: counts are damaged");
    const token = k === 1 ? end : end.map((number) => below.token[number]);
    levels.push({ size, token, end, starts });
  }
  levels[order].count = Float64Array.from({ length: sizes[order - 1] }, bits.gamma);
  for (let k = order; k > 1; k--) {
    const [level, below] = [levels[k], levels[k - 1]];
    below.count = new Float64Array(below.size);
    below.continuation = new Float64Array(below.size);
    level.end.forEach((number, gram) => {
      below.count[number] += level.count[gram];
      below.continuation[number] += 1;
    });
    below.continuationTotals = ngTotals(below, below.continuation);
  }
  for (const level of levels.slice(1)) level.totals = ngTotals(level, level.count);
  return { levels, order, vocabSize, bos };
}

/** The number of the k-gram that a context and a token make; −1 if it was not seen. */
export function ngFind({ levels }, k, context, token) {
  if (context < 0) return -1;
  const { token: tokens, starts } = levels[k];
  let [low, high] = [starts[context], starts[context + 1]];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tokens[middle] < token) low = middle + 1;
    else high = middle;
  }
  return low < starts[context + 1] && tokens[low] === token ? low : -1;
}

/** The numbers of the last 0, 1, … tokens of h as contexts; −1 for what was not seen. */
export function ngContexts(tables, h) {
  return Array.from({ length: h.length + 1 }, (_, length) => {
    let context = 0;
    for (let k = 1; k <= length; k++) {
      const token = h[h.length - length + k - 1];
      const allBos = context === (k === 1 ? 0 : tables.levels[k - 1].size) && token === tables.bos;
      context = allBos ? tables.levels[k].size : ngFind(tables, k, context, token);
    }
    return context;
  });
}

/**
 * What the formulas say at one level: k-grams, their contexts and the worth of each, which is c
 * for the order chosen and, in Kneser–Ney's lower orders, N1+(• g).
 */
export function ngLevel({ levels }, { order, smoothing }, k, context) {
  const level = levels[k];
  const lower = smoothing === "kneser_ney" && k < order;
  const seen = context >= 0;
  return {
    level,
    worth: lower ? level.continuation : level.count,
    total: seen ? (lower ? level.continuationTotals : level.totals)[context] : 0,
    types: seen ? level.starts[context + 1] - level.starts[context] : 0,
    first: seen ? level.starts[context] : 0,
  };
}

/** (c + k) / (total + k V), with k = 0 for "mle", and 1 / V for 0 / 0. */
function ngAddK({ smoothing, k }, count, total, vocabSize) {
  const added = smoothing === "add_k" ? k : 0;
  const denominator = total + added * vocabSize;
  return denominator === 0 ? 1 / vocabSize : (count + added) / denominator;
}

/** γ(h): what Kneser–Ney leaves to the shorter context. */
export function ngGamma({ total, types }, discount) {
  return total > 0 ? (discount * types) / total : 1;
}

/**
 * P(w | h) for every w: Float64Array(V). `setting` is { order, smoothing, k, discounts }, with
 * the discounts of this order, unigrams first; `h` are the last order − 1 tokens. The operations
 * and their order are those of lmlib.ngram, so that ties are ties in both.
 */
export function ngDistribution(tables, setting, h) {
  const { vocabSize } = tables;
  const contexts = ngContexts(tables, h);
  const p = new Float64Array(vocabSize);
  if (setting.smoothing !== "kneser_ney") {
    const k = contexts.length;
    const { level, worth, total, types, first } = ngLevel(tables, setting, k, contexts[k - 1]);
    p.fill(ngAddK(setting, 0, total, vocabSize));
    for (let i = first; i < first + types; i++) {
      p[level.token[i]] = ngAddK(setting, worth[i], total, vocabSize);
    }
    return p;
  }
  p.fill(1 / vocabSize);
  contexts.forEach((context, i) => {
    const discount = setting.discounts[i];
    const at = ngLevel(tables, setting, i + 1, context);
    const gamma = ngGamma(at, discount);
    for (let token = 0; token < vocabSize; token++) p[token] *= gamma;
    for (let j = at.first; j < at.first + at.types; j++) {
      p[at.level.token[j]] += Math.max(at.worth[j] - discount, 0) / at.total;
    }
  });
  return p;
}

/** P(w | h) of one token. */
export function ngProbability(tables, setting, h, token) {
  const contexts = ngContexts(tables, h);
  const worthOf = (k) => {
    const gram = ngFind(tables, k, contexts[k - 1], token);
    const at = ngLevel(tables, setting, k, contexts[k - 1]);
    return { ...at, count: gram < 0 ? 0 : at.worth[gram] };
  };
  if (setting.smoothing !== "kneser_ney") {
    const { count, total } = worthOf(contexts.length);
    return ngAddK(setting, count, total, tables.vocabSize);
  }
  let p = 1 / tables.vocabSize;
  for (let k = 1; k <= contexts.length; k++) {
    const discount = setting.discounts[k - 1];
    const at = worthOf(k);
    p = p * ngGamma(at, discount) + Math.max(at.count - discount, 0) / Math.max(at.total, 1);
  }
  return p;
}

/**
 * What the counts say of w behind h. `count`, `total` and `types` are c(h w), c(h •) and N1+(h •).
 * With Kneser–Ney `length` tokens of h were left when w (or, without w, anything) was seen behind
 * them; then the numbers are of these, and N1+(• h′ w) in place of c. −1: w was never seen.
 */
export function ngEvidence(tables, setting, h, token = null) {
  const contexts = ngContexts(tables, h);
  const numbers = (length) => {
    const context = contexts[length];
    const { worth, total, types } = ngLevel(tables, setting, length + 1, context);
    const gram = token === null ? -1 : ngFind(tables, length + 1, context, token);
    return { length, total, types, count: gram < 0 ? 0 : worth[gram] };
  };
  const whole = numbers(h.length);
  let length = h.length;
  if (setting.smoothing === "kneser_ney") {
    const found = (at) => (token === null ? at.total : at.count) > 0;
    while (length >= 0 && !found(numbers(length))) length--;
  }
  return { whole, used: length < 0 ? { length, total: 0, types: 0, count: 0 } : numbers(length) };
}

/** The last order − 1 tokens in front of place i, BOS where the text has none. */
export function ngHistory({ bos }, order, ids, i) {
  return Array.from({ length: order - 1 }, (_, j) => ids[i - order + 1 + j] ?? bos);
}

/**
 * The running product: for each token of `ids` its context h, P(w | h), log P in nats and the sum
 * of those so far. Products are kept as logs: a hundred factors fit no float.
 */
export function ngWalk(tables, setting, ids) {
  let sum = 0;
  return ids.map((token, i) => {
    const h = ngHistory(tables, setting.order, ids, i);
    const p = ngProbability(tables, setting, h, token);
    sum += Math.log(p);
    return { token, h, p, logP: Math.log(p), sum };
  });
}

/** exp of the mean of −log P; NaN of nothing. */
export function ngPerplexity(walk) {
  return walk.length ? Math.exp(-walk[walk.length - 1].sum / walk.length) : NaN;
}

/** The `count` most probable tokens; of equals those that can be written first, then the lower id. */
export function ngTop(p, writable, count) {
  const before = (a, b) => p[b] - p[a] || writable(b) - writable(a) || a - b;
  const best = [];
  for (let token = 0; token < p.length; token++) {
    if (best.length === count && before(token, best[count - 1]) > 0) continue;
    let at = best.length;
    while (at > 0 && before(token, best[at - 1]) < 0) at--;
    best.splice(at, 0, token);
    best.length = Math.min(best.length, count);
  }
  return best.filter((token) => p[token] > 0);
}

/** Mulberry32: one random number in [0, 1), and the seed of the next one. */
export function ngRandom(seed) {
  const next = (seed + 0x6d2b79f5) >>> 0;
  let t = Math.imul(next ^ (next >>> 15), next | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return { value: ((t ^ (t >>> 14)) >>> 0) / 2 ** 32, next };
}

/** One token drawn from p with a number in [0, 1), among those that `allowed` lets through. */
export function ngDraw(p, allowed, value) {
  let rest = 0;
  for (let token = 0; token < p.length; token++) if (allowed(token)) rest += p[token];
  rest *= value;
  let last = -1;
  for (let token = 0; token < p.length; token++) {
    if (!allowed(token) || p[token] === 0) continue;
    last = token;
    rest -= p[token];
    if (rest < 0) break;
  }
  return last;
}
