// NGramExplorer: its numbers and sentences, as plain functions.

const NG_START = "▸"; // stands for BOS
const NG_END = "■"; // stands for EOS
const NG_NAMES = { mle: "最大似然", add_k: "加 k", kneser_ney: "Kneser–Ney" };

/** e^logP for reading, three digits; also where it is too small for a float. */
export function ngPowerText(logP) {
  if (logP === -Infinity) return "0";
  if (Math.abs(logP) <= Math.log(1000)) return Math.exp(logP).toPrecision(3);
  const log10 = logP / Math.LN10;
  let exponent = Math.floor(log10);
  let digits = (10 ** (log10 - exponent)).toFixed(2);
  if (digits === "10.00") [digits, exponent] = ["1.00", exponent + 1];
  return `${digits}×10${nlSuperscript(exponent)}`;
}

/** A whole number, its thousands set apart by blanks at which no line breaks. */
export function ngCountText(count) {
  return String(count).replace(/\B(?=(\d{3})+$)/g, "\u00a0");
}

export function ngPerplexityText(perplexity) {
  if (Number.isNaN(perplexity)) return "—";
  if (perplexity === Infinity) return "∞";
  if (perplexity >= 1e6) return ngPowerText(Math.log(perplexity));
  return perplexity < 1000 ? perplexity.toPrecision(4) : ngCountText(Math.round(perplexity));
}

/** log P in the base chosen. */
export function ngLogText(logP, base) {
  return nlNumber(base === "bits" ? logP / Math.LN2 : logP, 2);
}

function ngUnit(base) {
  return base === "bits" ? "比特" : "奈特";
}

/** A number that a slider gives: 0.1, 0.00013, 10. */
function ngShort(x) {
  return String(Number(x.toPrecision(2)));
}

/** The formula as it is set now. */
export function ngFormulaText({ order, smoothing, k, discounts }, vocabSize) {
  const h = order > 1 ? `h：前面 ${order - 1} 个字` : "没有 h：不看前文";
  if (smoothing === "mle") return `P(w | h) = c(h w) ÷ c(h •)　${h}`;
  if (smoothing === "add_k") {
    return `P(w | h) = ( c(h w) ＋ k ) ÷ ( c(h •) ＋ k V )　${h}，k = ${ngShort(k)}，V = ${vocabSize}`;
  }
  const discount = discounts[order - 1].toFixed(3);
  return (
    "P(w | h) = max( c(h w) − D, 0 ) ÷ c(h •) ＋ γ(h) P(w | h′)　" +
    `${h}，h′：少看最前面一个字，D = ${discount}`
  );
}

/** The counts behind one probability, short: "3/17", or to which context it backs off. */
export function ngEvidenceText({ whole, used }, { smoothing }, context) {
  const share = ({ count, total }) => `${ngCountText(count)}/${ngCountText(total)}`;
  if (smoothing === "add_k") {
    return `(${ngCountText(whole.count)}＋k) / (${ngCountText(whole.total)}＋kV)`;
  }
  if (smoothing === "mle" && whole.total === 0) return "0/0，取 1/V";
  if (smoothing === "mle" || used.length === whole.length) return share(whole);
  if (used.length < 0) return "没见过，只剩 1/V";
  const where = used.length ? `「${context.slice(-used.length).join("")}」` : "单字";
  return `退到${where} N₁₊ ${share(used)}`;
}

/** What is known of what follows h; `context` are the tokens of h as texts. */
export function ngNextText({ whole, used }, setting, context) {
  const quote = (length) => `「${context.slice(context.length - length).join("")}」`;
  const { order, smoothing, discounts } = setting;
  const name = quote(whole.length);
  const kinds = (at) => `${ngCountText(at.types)} 种`;
  if (smoothing !== "kneser_ney" || order === 1) {
    if (order === 1) {
      return `一元模型不看前文：全部 ${ngCountText(whole.total)} 个词元里有 ${kinds(whole)}。`;
    }
    if (whole.total > 0) {
      return `${name}后面见过 ${ngCountText(whole.total)} 个词元，${kinds(whole)}：c(h •) = ${ngCountText(whole.total)}。`;
    }
    return smoothing === "mle"
      ? `没见过${name}后面的字：c(h •) = 0，公式成了 0 ÷ 0，这里给每个词元 1/V。`
      : `没见过${name}后面的字：c(h •) = 0，分子只剩 k，分母只剩 k V，每个词元都是 1/V。`;
  }
  if (used.length === whole.length) {
    const gamma = ngPowerText(Math.log(ngGamma(whole, discounts[order - 1])));
    const shorter = whole.length > 1 ? quote(whole.length - 1) : "单字";
    return (
      `${name}后面见过 ${ngCountText(whole.total)} 个词元，${kinds(whole)}。` +
      `γ(h) = D × ${ngCountText(whole.types)} ÷ ${ngCountText(whole.total)} = ${gamma}：` +
      `这么多概率留给${shorter}。`
    );
  }
  if (used.length === 0) return `没见过${name}后面的字，更短的也没有，退到单字。`;
  return (
    `没见过${name}后面的字，退到${quote(used.length)}，它后面见过 ${kinds(used)}。` +
    "这里数的是 N₁₊(• h′ w)：有几种字站在 h′ w 前面。"
  );
}

/** Which characters the model does not know; "" if it knows all. */
export function ngUnknownText(characters) {
  const names = [...new Set(characters)].map((character) => `「${character}」`).join("");
  return names && `${names}不在词表里：模型看到的都是同一个词元 <unk>。`;
}

/** Why a token has probability 0. */
export function ngZeroText(name, { whole }, { order, smoothing }, context) {
  const where = order > 1 ? `「${context.join("")}」后面` : "语料里";
  if (smoothing !== "mle") return `${where}的「${name}」没有分到概率（D = 0）：P = 0，log P = −∞。`;
  return (
    `${where}见过 ${ngCountText(whole.total)} 个词元，没有一个是「${name}」：` +
    "P = 0，log P = −∞，乘到这里就是 0，困惑度是 ∞。"
  );
}

/** The whole prefix in one line. */
export function ngSummaryText(walk, names, base) {
  if (walk.length === 0) return "前缀是空的：还没有因子可以乘。";
  const text = names.length > 12 ? `${names.slice(0, 11).join("")}…` : names.join("");
  const { sum } = walk[walk.length - 1];
  return (
    `P(${text}) = ${ngPowerText(sum)}，log P = ${ngLogText(sum, base)} ${ngUnit(base)}，` +
    `困惑度 ${ngPerplexityText(ngPerplexity(walk))}`
  );
}

/** What lies outside the bars, and how uncertain it all is. */
export function ngRestText(p, best, base) {
  let shown = 0;
  let possible = 0;
  for (const token of best) shown += p[token];
  for (const value of p) possible += value > 0 ? 1 : 0;
  const zeros = p.length - possible;
  const parts = [];
  if (possible > best.length) {
    const rest = nlPercent(Math.max(0, 1 - shown));
    parts.push(`其余 ${ngCountText(possible - best.length)} 个词元合计 ${rest}`);
  }
  if (zeros) parts.push(`${ngCountText(zeros)} 个词元的概率是 0`);
  const entropy = base === "bits" ? nlEntropy(p) : nlEntropy(p) * Math.LN2;
  parts.push(`熵 ${entropy.toFixed(2)} ${ngUnit(base)}`);
  return `${parts.join("；")}。`;
}

/** Marks of a logarithmic axis from 10^lowest up to 1, five at most, as exponents. */
export function ngTicks(lowest) {
  const step = [1, 2, 5, 10, 20, 50, 100, 200].find((size) => -lowest / size <= 4) ?? 500;
  return Array.from({ length: Math.floor(-lowest / step) + 1 }, (_, i) => (i ? -i * step : 0));
}
