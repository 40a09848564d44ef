// PoemWriter: how one token was drawn. Four columns of bars, and the cumulative sum with u on it.

/** The candidates, a row each and a column for each stage; update(look, filters, own name). */
function pwTable() {
  const head = nlElement("tr", {}, nlElement("td", {}));
  const columns = Array.from({ length: 4 }, (_, i) =>
    nlElement(
      "th",
      { scope: "col", "data-nl": `stage-${i}` },
      nlElement("span", {}),
      nlElement("span", { class: "pw-left" }),
    ),
  );
  head.append(...columns);
  const body = nlElement("tbody", {});
  const caption = nlElement("caption", { class: "nl-said" }, "每个候选的概率：模型给的，温度、top-k、top-p 之后的");
  const element = nlElement("table", { class: "pw-table", "data-nl": "table" }, caption, nlElement("thead", {}, head), body);
  const cell = () =>
    nlElement(
      "td",
      {},
      nlElement("span", { class: "pw-share" }),
      nlElement("span", { class: "pw-track", "aria-hidden": "true" }, nlElement("span", { class: "pw-fill" })),
    );
  const row = () =>
    nlElement("tr", {}, nlElement("th", { scope: "row" }), ...Array.from({ length: 4 }, cell));
  const fill = (node, label, shares, most, cut) => {
    node.firstChild.replaceChildren(...label);
    shares.forEach((share, i) => {
      const [text, track] = node.children[i + 1].children;
      node.children[i + 1].dataset.cut = String(cut && share === 0);
      text.textContent = cut && share === 0 ? "切掉" : nlPercent(share);
      track.firstChild.style.width = `${(100 * share) / most}%`;
    });
  };
  const update = ({ candidates, left, drawn }, filters, own, vocabSize) => {
    pwStageNames(filters).forEach((name, i) => {
      columns[i].children[0].textContent = name;
      columns[i].children[1].textContent = `剩 ${pwCount(left[i])} 个`;
    });
    while (body.children.length > candidates.length + 1) body.lastChild.remove();
    while (body.children.length < candidates.length + 1) body.append(row());
    const most = Math.max(...candidates.flatMap(({ shares }) => shares));
    candidates.forEach(({ name, rank, shares }, i) => {
      const node = body.children[i];
      const chosen = name === own;
      const label = [nlElement("span", { class: "pw-name" }, name)];
      if (rank > i + 1) label.push(nlElement("span", { class: "pw-rank" }, `第 ${pwCount(rank)} 名`));
      node.dataset.nl = `candidate-${i}`;
      node.dataset.own = String(chosen);
      node.dataset.drawn = String(name === drawn);
      if (chosen) label.push(nlElement("span", { class: "nl-said" }, "，写的就是它"));
      fill(node, label, shares, most, true);
    });
    const rest = body.lastChild;
    const others = left.map((_, i) => Math.max(0, 1 - candidates.reduce((sum, each) => sum + each.shares[i], 0)));
    rest.dataset.nl = "rest";
    rest.dataset.own = rest.dataset.drawn = "false";
    const count = nlElement("span", { class: "pw-rank" }, `${pwCount(vocabSize - candidates.length)} 个`);
    fill(rest, ["其余 ", count], others.map((p) => (p < 1e-9 ? 0 : p)), Infinity, false);
  };
  return { element, update };
}

/** The cumulative sum of the last column from 0 to 1, and where the random number fell. */
function pwStrip() {
  const bar = nlElement("div", { class: "pw-bar" });
  const mark = nlElement("div", { class: "pw-mark" });
  const ends = nlElement("div", { class: "pw-ends" }, nlElement("span", {}, "0"), nlElement("span", {}, "1"));
  const element = nlElement("div", { class: "pw-strip", "aria-hidden": "true", "data-nl": "strip" }, mark, bar, ends);
  const update = ({ parts, drawn }, u) => {
    bar.replaceChildren(
      ...parts.map(({ name, low, high }) => {
        const part = nlElement("span", { class: "pw-part", "data-drawn": String(name === drawn) });
        part.style.left = `${100 * low}%`;
        part.style.width = `${100 * (high - low)}%`;
        if (high - low >= 0.05) part.textContent = name;
        return part;
      }),
    );
    mark.style.left = `${100 * u}%`;
    mark.dataset.side = u > 0.5 ? "end" : "start";
    mark.replaceChildren(nlElement("span", {}, `u = ${u.toFixed(4)}`));
  };
  return { element, update };
}

/** All about one step; update(null) says that it needs the model. */
function pwPanel() {
  const heading = nlElement("p", { class: "pw-heading", "data-nl": "chosen" });
  const changed = nlElement("p", { class: "pw-changed", "data-nl": "changed" });
  const table = pwTable();
  const strip = pwStrip();
  const draw = nlElement("p", { class: "pw-draw", "data-nl": "draw" });
  const inside = nlElement("div", {}, changed, table.element, strip.element, draw);
  const element = nlElement("div", { class: "pw-panel" }, heading, inside);
  const update = ({ step, index, look, filters, same, vocabSize }) => {
    const name = nlElement("b", {}, step.name === PW_END ? `结尾 ${PW_END}` : step.name);
    heading.replaceChildren(`第 ${index + 1} 步写 `, name, look ? "：" : "。它怎么来的，载入模型后就看得到。");
    inside.hidden = !look;
    if (!look) return;
    changed.hidden = same;
    changed.textContent = "滑块动过了：下面照现在的滑块算，诗还是原来的诗。按「写」，照新设置重写。";
    table.update(look, filters, step.name, vocabSize);
    strip.element.hidden = step.given;
    if (!step.given) strip.update(look, step.u);
    draw.textContent = pwDrawText(step, look);
  };
  return { element, update };
}
