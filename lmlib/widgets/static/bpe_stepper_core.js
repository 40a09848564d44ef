// BPEStepper: the arithmetic. Pieces, bytes, learning merges from a text and applying them, step
// by step as lmlib.tokenizers.BPETokenizer does it. A symbol is a text in GPT-2's alphabet, which
// has one visible character for each byte, as in the tokenizer's `vocab`.

const BPE_ALPHABET = bpeMakeAlphabet();
const BPE_BYTES = new Map(BPE_ALPHABET.map((char, byte) => [char, byte]));

/** The character of each byte: itself if it is visible in Latin-1, else one from U+0100 on. */
function bpeMakeAlphabet() {
  const visible = (byte) =>
    (byte >= 0x21 && byte < 0x7f) || (byte >= 0xa1 && byte < 0xad) || byte >= 0xae;
  let hidden = 0x100;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(visible(byte) ? byte : hidden++),
  );
}

/** The bytes of `text` in UTF-8; of a lone surrogate three, as Python's "surrogatepass" has it. */
function bpeBytes(text) {
  const bytes = [];
  for (const char of text) {
    const code = char.codePointAt(0);
    if (code < 0x80) {
      bytes.push(code);
      continue;
    }
    const more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3; // how many bytes follow the first
    bytes.push([0, 0xc0, 0xe0, 0xf0][more] | (code >> (6 * more)));
    for (let i = more - 1; i >= 0; i--) bytes.push(0x80 | ((code >> (6 * i)) & 0x3f));
  }
  return bytes;
}

/** The symbols that a piece of text consists of before any merge: one a byte. */
function bpeSymbols(piece) {
  return bpeBytes(piece).map((byte) => BPE_ALPHABET[byte]);
}

/**
 * What a symbol stands for: { text, hex }. `text` has its blanks made visible; it is null where
 * the bytes are no whole characters, and `hex` shows them then.
 */
function bpeReadable(symbol) {
  const bytes = [...symbol].map((char) => BPE_BYTES.get(char));
  const hex = bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");
  let text = null;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      new Uint8Array(bytes),
    );
  } catch {
    return { text, hex };
  }
  const signs = { " ": "␣", "\t": "⇥", "\n": "↵" };
  const named = (char) => `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  const shown = [...text].map((char) =>
    /[\p{C}\p{Z}\t\n]/u.test(char) ? (signs[char] ?? named(char)) : char,
  );
  return { text: shown.join(""), hex };
}

/**
 * The pieces of `text`, which joined give it back; nothing is merged across their borders. What
 * `pattern`, a regular expression as text, does not match is a piece by itself.
 */
function bpePieces(text, pattern) {
  const pieces = [];
  let end = 0;
  for (const match of text.matchAll(new RegExp(pattern, "gu"))) {
    if (end < match.index) pieces.push(text.slice(end, match.index));
    if (match[0]) pieces.push(match[0]);
    end = match.index + match[0].length;
  }
  if (end < text.length) pieces.push(text.slice(end));
  return pieces;
}

// ---------------------------------------------------------------- training

const BPE_BASE = 1 << 16; // two ids as one number that sorts like the pair of them

function bpeCount(pairs, left, right, count) {
  const pair = left * BPE_BASE + right;
  const sum = (pairs.get(pair) ?? 0) + count;
  if (sum) pairs.set(pair, sum);
  else pairs.delete(pair);
}

/**
 * How often each pair of neighbours occurs: a Map from left × BPE_BASE + right. `words` are lists
 * of ids, `counts` how often each word occurs. Overlapping pairs all count: a a a holds a a twice.
 */
function bpePairs(words, counts) {
  const pairs = new Map();
  words.forEach((word, at) => {
    for (let i = 0; i + 1 < word.length; i++) bpeCount(pairs, word[i], word[i + 1], counts[at]);
  });
  return pairs;
}

/**
 * `word`, a list of ids that occurs `count` times, with left and right merged wherever they stand
 * together, from the left. Only the neighbours change in `pairs`: counting all anew after every
 * merge would make the reader wait.
 */
function bpeMerged(word, left, right, merged, count, pairs) {
  const result = [];
  for (let i = 0; i < word.length; i++) {
    if (word[i] !== left || word[i + 1] !== right) {
      result.push(word[i]);
      continue;
    }
    bpeCount(pairs, left, right, -count);
    if (result.length) {
      bpeCount(pairs, result.at(-1), left, -count);
      bpeCount(pairs, result.at(-1), merged, count);
    }
    if (i + 2 < word.length) {
      bpeCount(pairs, right, word[i + 2], -count);
      bpeCount(pairs, merged, word[i + 2], count);
    }
    result.push(merged);
    i++;
  }
  return result.length < word.length ? result : word;
}

/** The most frequent pair, and of equally frequent ones that with the smaller ids. */
function bpeBest(pairs) {
  let [best, most] = [null, 0];
  for (const [pair, count] of pairs) {
    if (count > most || (count === most && pair < best)) [best, most] = [pair, count];
  }
  return [best, most];
}

/**
 * Learn merges from `text` until no pair occurs `minCount` times, or `numMerges` are learnt.
 * Returns the different pieces of the text, their counts, the symbol of each id, the merges
 * ({ left, right, token, count }), and the words as ids after 0, 1, 2 … merges.
 */
export function bpeTrain({ text, pattern, numMerges, minCount }) {
  const occurrences = new Map();
  for (const piece of bpePieces(text, pattern)) {
    occurrences.set(piece, (occurrences.get(piece) ?? 0) + 1);
  }
  const pieces = [...occurrences.keys()];
  const counts = [...occurrences.values()];
  const symbols = [...BPE_ALPHABET].sort();
  let words = pieces.map((piece) => bpeSymbols(piece).map((symbol) => symbols.indexOf(symbol)));
  const states = [words];
  const merges = [];
  const pairs = bpePairs(words, counts);
  while (merges.length < numMerges) {
    const [pair, count] = bpeBest(pairs);
    if (pair === null || count < minCount) break;
    const [left, right] = [Math.floor(pair / BPE_BASE), pair % BPE_BASE];
    const id = symbols.length;
    symbols.push(symbols[left] + symbols[right]);
    merges.push({ left: symbols[left], right: symbols[right], token: symbols[id], count });
    words = words.map((word, at) => bpeMerged(word, left, right, id, counts[at], pairs));
    states.push(words);
  }
  return { pieces, counts, symbols, merges, states };
}

/** The words as symbols after `step` merges. */
export function bpeWordsAt({ symbols, states }, step) {
  return states[step].map((word) => word.map((id) => symbols[id]));
}

/** The pairs after `step` merges, the next one first: { left, right, ids, count }. */
export function bpePairsAt({ counts, symbols, states }, step) {
  return [...bpePairs(states[step], counts)]
    .sort(([pair, count], [otherPair, otherCount]) => otherCount - count || pair - otherPair)
    .map(([pair, count]) => {
      const ids = [Math.floor(pair / BPE_BASE), pair % BPE_BASE];
      return { left: symbols[ids[0]], right: symbols[ids[1]], ids, count };
    });
}

/** How many symbols the whole text has after `step` merges. */
function bpeLength({ counts, states }, step) {
  return states[step].reduce((sum, word, at) => sum + word.length * counts[at], 0);
}

// ---------------------------------------------------------------- use

/** What `shipped` says of a tokenizer → its merges in order, their ranks, the ids of symbols. */
export function bpeTokenizer(shipped) {
  const ids = new Map(BPE_ALPHABET.map((char, byte) => [char, shipped.byte_ids[byte]]));
  const lines = shipped.merges ? shipped.merges.split("\n") : [];
  const merges = lines.map((line, rank) => {
    const [left, right] = line.split(" ");
    ids.set(left + right, shipped.ids[rank]);
    return { left, right, token: left + right };
  });
  const ranks = new Map(lines.map((line, rank) => [line, rank]));
  return { merges, ranks, ids, pattern: shipped.pattern, total: shipped.total };
}

/** The ranks of the pairs of neighbours in `symbols`; Infinity for a pair that was not learnt. */
function bpeRanks(symbols, ranks) {
  return symbols.slice(1).map((right, i) => ranks.get(`${symbols[i]} ${right}`) ?? Infinity);
}

/**
 * Every merge of `text` in order: { piece, rank, index }, where `index` says which symbol of the
 * piece becomes the new one. Piece by piece; in each the lowest rank first, and the leftmost.
 */
export function bpeApply(text, tokenizer) {
  const pieces = bpePieces(text, tokenizer.pattern).map(bpeSymbols);
  const steps = [];
  pieces.forEach((start, piece) => {
    const symbols = [...start];
    const waiting = bpeRanks(symbols, tokenizer.ranks);
    while (waiting.length) {
      let index = 0;
      for (let i = 1; i < waiting.length; i++) if (waiting[i] < waiting[index]) index = i;
      const rank = waiting[index];
      if (rank === Infinity) break;
      steps.push({ piece, rank, index });
      symbols.splice(index, 2, tokenizer.merges[rank].token);
      const from = Math.max(0, index - 1);
      const around = bpeRanks(symbols.slice(from, index + 2), tokenizer.ranks);
      waiting.splice(from, index + 2 - from, ...around);
    }
  });
  return { pieces, steps };
}

/** The symbols of every piece after `step` merges. */
export function bpeAppliedAt({ pieces, steps }, tokenizer, step) {
  const now = pieces.map((symbols) => [...symbols]);
  for (const { piece, rank, index } of steps.slice(0, step)) {
    now[piece].splice(index, 2, tokenizer.merges[rank].token);
  }
  return now;
}

/** The pairs in `symbols` that were learnt, the one that is merged next first. */
export function bpeCandidates(symbols, tokenizer) {
  return bpeRanks(symbols, tokenizer.ranks)
    .map((rank, index) => ({ rank, index }))
    .filter(({ rank }) => rank < Infinity)
    .sort((a, b) => a.rank - b.rank || a.index - b.index);
}
