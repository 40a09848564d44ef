// BPEStepper: what the figure says at a step, in either mode, as plain values and chips.

const BPE_JOIN = "\u2060"; // no line begins with the punctuation behind a chip

/** What the last step has done. */
function bpeDone(step, { left, right, token }) {
  const merged = bpePairChips(left, right);
  return [`第 ${step} 步合并了 `, ...merged, `${BPE_JOIN}，得到 `, bpeChip(token), `${BPE_JOIN}。`];
}

function bpeAverage(bytes, symbols) {
  return symbols ? `${(bytes / symbols).toFixed(2)} 个字节` : "—";
}

/** The message, numbers, words, table and list of merges of "train" after `step` merges. */
function bpeTrainPage(trained, step, { numMerges, minCount }) {
  const { counts, merges } = trained;
  const ranked = bpePairsAt(trained, step);
  const next = merges[step] ?? null;
  const last = merges[step - 1] ?? null;
  const ties = next ? ranked.filter(({ count }) => count === next.count).length - 1 : 0;
  const [before, now] = [bpeLength(trained, 0), bpeLength(trained, step)];
  const words = bpeWordsAt(trained, step);
  const places = words.map((symbols) => bpePlaces(symbols, next));
  const message = last ? bpeDone(step, last) : ["一开始，每个字节是一个符号。"];
  if (next) {
    const most = ties ? `并列最多；一样多的还有 ${ties} 对，编号小的先合并。` : "是最多的一对。";
    const pair = bpePairChips(next.left, next.right);
    const merged = places.reduce((sum, found, at) => sum + found.length * counts[at], 0);
    const overlaps = merged < next.count ? `（有重叠，能合并 ${merged} 处）` : "";
    message.push("下一步合并 ", ...pair, `${BPE_JOIN}，它出现 ${next.count} 次${overlaps}，${most}`);
  } else if (before === 0) {
    message.splice(0, 1, "文字是空的，先写几个字。");
  } else if (merges.length === numMerges) {
    message.push(`已经合并了 ${numMerges} 次，到了这张图的上限。`);
  } else {
    message.push(`没有哪一对出现 ${minCount} 次，训练到此为止。`);
  }
  return {
    message,
    numbers: [
      ["词表", `256 ＋ ${step} ＝ ${256 + step} 个`],
      ["整段文字的符号", `${before} → ${now} 个`],
      ["平均每个符号", bpeAverage(before, now)],
    ],
    words: words.map((symbols, at) => ({
      symbols,
      count: counts[at],
      marks: places[at],
      fresh: (i) => symbols[i] === last?.token,
      current: false,
    })),
    table: {
      caption: `最常见的相邻对（前 ${BPE_TOP_PAIRS} 名）`,
      heads: ["相邻的一对", "次数", "编号"],
      rows: ranked.slice(0, BPE_TOP_PAIRS).map(({ left, right, ids, count }, row) => ({
        left,
        right,
        cells: [count, ids.join("，")],
        share: count / ranked[0].count,
        next: row === 0 && next !== null,
      })),
      empty: "每个片段只剩一个符号，没有相邻的对了。",
    },
    merges: merges
      .slice(0, step)
      .map((merge, rank) => ({ ...merge, note: `${merge.count} 次，编号 ${256 + rank}` })),
    mergesCaption: step ? `学到的合并（${step} 次）` : "学到的合并（还没有）",
  };
}

/** The same for "use": a trained tokenizer applied to the text. */
function bpeUsePage(applied, tokenizer, step) {
  const { steps } = applied;
  const { ids, merges, total } = tokenizer;
  const symbols = bpeAppliedAt(applied, tokenizer, step);
  const next = steps[step] ?? null;
  const last = steps[step - 1] ?? null;
  const now = symbols.flat();
  const before = applied.pieces.flat().length;
  const message = last
    ? bpeDone(step, merges[last.rank])
    : ["一开始，每个字节是一个词元。"];
  if (next) {
    const { left, right } = merges[next.rank];
    message.push(
      `下一步：第 ${next.piece + 1} 个片段里，`,
      ...bpePairChips(left, right),
      ` 学得最早（第 ${next.rank + 1} 个学到），先合并。`,
    );
  } else if (before === 0) {
    message.splice(0, 1, "文字是空的，先写几个字。");
  } else {
    message.push(`没有学过的对了。这 ${now.length} 个词元就是 BPETokenizer.encode 的结果。`);
  }
  const learnt = next ? bpeCandidates(symbols[next.piece], tokenizer) : [];
  const candidates = learnt.filter(({ rank }, i) => rank !== learnt[i - 1]?.rank);
  return {
    message,
    numbers: [
      ["学好的合并", total > merges.length ? `${total} 个，只装了前 ${merges.length} 个` : `${total} 个`],
      ["词元", `${before} → ${now.length} 个`],
      ["平均每个词元", bpeAverage(before, now.length)],
    ],
    words: symbols.map((piece, at) => ({
      symbols: piece,
      count: null,
      marks: next?.piece === at ? [next.index] : [],
      fresh: (i) => last?.piece === at && last.index === i,
      current: next?.piece === at,
    })),
    ids,
    result: next || before === 0 ? null : now.map((symbol) => ids.get(symbol)),
    table: {
      caption: next ? `第 ${next.piece + 1} 个片段里学过的对` : "学过的对",
      heads: ["相邻的一对", "第几个学到", "合并后的编号"],
      rows: candidates.slice(0, BPE_TOP_PAIRS).map(({ rank }, row) => ({
        ...merges[rank],
        cells: [rank + 1, ids.get(merges[rank].token)],
        share: 0,
        next: row === 0,
      })),
      empty: "哪个片段里都没有学过的对了。",
    },
    merges: steps
      .slice(0, step)
      .map(({ rank }) => ({ ...merges[rank], note: `第 ${rank + 1} 个学到` })),
    mergesCaption: step ? `用过的合并（${step} 次）` : "用过的合并（还没有）",
  };
}

/** What the text gives in each mode; computed when the text changes. */
function bpeCalculator(model) {
  const shipped = model.get("shipped");
  const tokenizer = shipped.byte_ids ? bpeTokenizer(shipped) : null;
  const settings = {
    pattern: model.get("pattern"),
    numMerges: model.get("num_merges"),
    minCount: model.get("min_count"),
  };
  const kept = { train: [null], use: [null] }; // [text, result]
  const keep = (mode, make) => {
    const text = model.get("text");
    if (kept[mode][0] !== text) kept[mode] = [text, make(text)];
    return kept[mode][1];
  };
  const train = () => keep("train", (text) => bpeTrain({ ...settings, text }));
  const use = () => keep("use", (text) => bpeApply(text, tokenizer));
  const mode = () => (tokenizer && model.get("mode") === "use" ? "use" : "train");
  return {
    tokenizer,
    mode,
    count: () => (mode() === "use" ? use().steps.length : train().merges.length),
    page: (step) =>
      mode() === "use" ? bpeUsePage(use(), tokenizer, step) : bpeTrainPage(train(), step, settings),
  };
}
