// BPEStepper: what is shown. Symbols as chips, the words made of them, the table of pairs, the
// list of merges.

const BPE_TOP_PAIRS = 8;
const BPE_CHIPS = new Map(); // symbol → its chip, to copy: a long text has a thousand of them

/** One symbol as a chip; `id` stands below it, `fresh` marks the symbol that was made last. */
function bpeChip(symbol, { id = null, fresh = false } = {}) {
  if (!BPE_CHIPS.has(symbol)) {
    const { text, hex } = bpeReadable(symbol);
    const title = text === null ? `字节 ${hex}，还不是完整的字符` : `字节 ${hex}`;
    const state = { "data-symbol": symbol, "data-bytes": text === null };
    BPE_CHIPS.set(symbol, nlElement("span", { class: "bpe-chip", ...state, title }, text ?? hex));
  }
  const chip = BPE_CHIPS.get(symbol).cloneNode(true);
  if (fresh) chip.dataset.fresh = "";
  if (id !== null) chip.append(nlElement("small", {}, String(id)));
  return chip;
}

/** "[l] ＋ [o]": a pair of symbols in a row. */
function bpePairChips(left, right) {
  return [bpeChip(left), nlElement("span", { class: "bpe-sign" }, "＋"), bpeChip(right)];
}

/** Where the pair stands in `symbols`, from the left and without overlaps, as merging finds it. */
function bpePlaces(symbols, pair) {
  const places = [];
  for (let i = 0; pair && i + 1 < symbols.length; i++) {
    if (symbols[i] === pair.left && symbols[i + 1] === pair.right) places.push(i++);
  }
  return places;
}

/**
 * The pieces of the text; update([{ symbols, count, marks, fresh, current }], ids). `marks` are
 * where a pair begins that is merged next, `fresh(i)` whether symbol i was made last, `count` is
 * null where a piece stands for itself; with `ids` each symbol carries its id.
 */
function bpeWords() {
  const element = nlElement("ul", { class: "bpe-words", "data-nl": "words" });
  const word = ({ symbols, count, marks, fresh, current }, ids) => {
    const item = nlElement("li", { class: "bpe-word", "data-current": current });
    for (let i = 0; i < symbols.length; i++) {
      const chip = (at) =>
        bpeChip(symbols[at], { id: ids?.get(symbols[at]) ?? null, fresh: fresh(at) });
      if (marks.includes(i)) item.append(nlElement("mark", {}, chip(i), chip(++i)));
      else item.append(chip(i));
    }
    if (count !== null) item.append(nlElement("span", { class: "bpe-count" }, `×${count}`));
    return item;
  };
  const update = (words, ids = null) => {
    element.setAttribute("aria-label", ids ? "文字的片段和词元编号" : "不同的片段和出现的次数");
    element.replaceChildren(...words.map((each) => word(each, ids)));
  };
  return { element, update };
}

/**
 * A table of pairs; update({ caption, heads, rows, empty }). A row is { left, right, cells, share,
 * next }: `share` (0–1) draws a bar behind the first cell, `next` marks the pair merged next.
 */
function bpeTable() {
  const caption = nlElement("caption", {});
  const head = nlElement("tr", {});
  const body = nlElement("tbody", {});
  const empty = nlElement("p", { class: "nl-note", "data-nl": "no-pairs" });
  const above = nlElement("thead", {}, head);
  const table = nlElement("table", { "data-nl": "pairs" }, caption, above, body);
  const update = ({ caption: text, heads, rows, empty: nothing }) => {
    caption.textContent = text;
    head.replaceChildren(...heads.map((name) => nlElement("th", { scope: "col" }, name)));
    body.replaceChildren(
      ...rows.map(({ left, right, cells, share, next }) => {
        const [first, ...rest] = cells.map((cell) => nlElement("td", {}, String(cell)));
        first.style.setProperty("--bpe-share", `${100 * share}%`);
        const pair = nlElement("div", {}, ...bpePairChips(left, right));
        if (next) pair.append(nlElement("span", { class: "bpe-next" }, "下一步"));
        return nlElement("tr", { "data-next": next }, nlElement("td", {}, pair), first, ...rest);
      }),
    );
    empty.textContent = rows.length ? "" : nothing;
    empty.hidden = rows.length > 0;
    table.hidden = rows.length === 0;
  };
  return { element: nlElement("div", { class: "bpe-table" }, table, empty), update };
}

/** The list of merges so far, newest last; update(caption, [{ left, right, token, note }]). */
function bpeMergeList() {
  const caption = nlElement("p", { class: "nl-label" });
  const list = nlElement("ol", { class: "bpe-merges", "data-nl": "merges", tabindex: 0 });
  const update = (text, merges) => {
    caption.textContent = text;
    list.setAttribute("aria-label", text);
    list.replaceChildren(
      ...merges.map(({ left, right, token, note }) =>
        nlElement(
          "li",
          {},
          ...bpePairChips(left, right),
          nlElement("span", { class: "bpe-sign" }, "→"),
          bpeChip(token),
          nlElement("span", { class: "bpe-count" }, note),
        ),
      ),
    );
    list.hidden = merges.length === 0;
    list.scrollTop = list.scrollHeight;
  };
  return { element: nlElement("div", { class: "bpe-list" }, caption, list), update };
}

/** A few named numbers in a row; update([[name, text], …]). */
function bpeNumbers() {
  const element = nlElement("dl", { class: "bpe-numbers", "data-nl": "numbers" });
  const update = (pairs) =>
    element.replaceChildren(
      ...pairs.map(([name, text]) =>
        nlElement("div", {}, nlElement("dt", {}, name), nlElement("dd", {}, text)),
      ),
    );
  return { element, update };
}

/** The reader's text. `onText` hears of every text that is written and short enough. */
function bpeTextArea({ limit, onText }) {
  const area = nlElement("textarea", {
    class: "nl-input bpe-text",
    "data-nl": "text",
    rows: 3,
    spellcheck: "false",
    autocomplete: "off",
    autocapitalize: "off",
  });
  const counter = nlElement("output", { "data-nl": "length" });
  const complaint = nlElement("p", { class: "bpe-complaint", role: "alert", "data-nl": "error" });
  const count = () => {
    const length = [...area.value].length;
    const tooLong = length > limit;
    counter.textContent = `${length} / ${limit} 个字符`;
    complaint.hidden = !tooLong;
    complaint.textContent = tooLong
      ? `文字太长：最多 ${limit} 个字符，现在有 ${length} 个。删掉一些，图才会跟上。`
      : "";
    area.setAttribute("aria-invalid", String(tooLong));
    return !tooLong;
  };
  const take = () => {
    if (count()) onText(area.value);
  };
  const composing = nlOnText(area, take);
  const set = (text) => {
    if (composing()) return;
    area.value = text;
    count();
  };
  const label = nlElement("span", { class: "nl-label" }, nlElement("span", {}, "你的文字"), counter);
  const field = nlElement("label", { class: "nl-field" }, label, area);
  return { element: nlElement("div", { class: "bpe-input" }, field, complaint), set };
}
