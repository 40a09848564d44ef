// BPEStepper: the figure. Three traits are shared with Python: `text`, `mode` ("train" or "use")
// and `step`, how many merges are done.

const BPE_PAUSE = 1000; // ms between two steps while it plays

/** The buttons that walk, and the slider; update(step, count, playing). */
function bpeWalk({ go, step, play }) {
  let total = 0;
  const button = (name, text, onClick) => nlButton({ name, text, onClick }).element;
  const first = button("first", "回到开头", () => go(0));
  const previous = button("previous", "上一步", () => go(step() - 1));
  const next = button("next", "下一步", () => go(step() + 1));
  const toggle = button("play", "播放", play);
  const slider = nlRange({
    name: "step",
    label: "合并",
    min: 0,
    max: 0,
    step: 1,
    value: 0,
    format: (at) => `第 ${at} 步，共 ${total} 步`,
    onInput: go,
  });
  slider.element.classList.add("bpe-slider");
  const update = (at, count, playing) => {
    total = count;
    slider.input.max = String(count);
    slider.input.disabled = count === 0;
    slider.set(at);
    // Not `disabled`: the button that has the focus would lose it at the last step.
    const off = [
      [first, at === 0],
      [previous, at === 0],
      [next, at === count],
      [toggle, count === 0],
    ];
    for (const [element, value] of off) element.setAttribute("aria-disabled", String(value));
    toggle.textContent = playing ? "暂停" : "播放";
  };
  const buttons = nlElement("div", { class: "nl-choices" }, first, previous, next, toggle);
  return { element: nlElement("div", { class: "bpe-walk" }, buttons, slider.element), update };
}

/** Steps on by itself, until the end, a pause or a change of anything else. */
function bpePlayer({ advance, onChange }) {
  let timer = null;
  const stop = () => {
    if (timer === null) return;
    clearTimeout(timer);
    timer = null;
    onChange();
  };
  const tick = () => {
    timer = setTimeout(tick, BPE_PAUSE);
    if (!advance()) stop();
  };
  const start = () => {
    timer = setTimeout(tick, BPE_PAUSE);
    onChange();
  };
  return { start, stop, playing: () => timer !== null };
}

function bpeRender({ model, el }) {
  const { root, scope, cleanup } = nlFigure({ model, el });
  const calculator = bpeCalculator(model);
  const put = (traits) => nlPut(model, traits);
  const count = () => calculator.count();
  const step = () => nlClampIndex(model.get("step"), count() + 1);
  const go = (to) => put({ step: nlClampIndex(to, count() + 1) });
  const player = bpePlayer({
    advance: () => {
      go(step() + 1);
      return step() < count();
    },
    onChange: () => update(),
  });
  const stopAnd = (action) => (value) => {
    player.stop();
    action(value);
  };

  const mode = nlChoices({
    name: "mode",
    label: "做什么",
    options: [
      ["train", "训练：从文字里学合并"],
      ["use", "使用：套用学好的合并"],
    ],
    value: calculator.mode(),
    onChange: stopAnd((value) => put({ mode: value, step: 0 })),
  });
  mode.element.hidden = calculator.tokenizer === null;
  let written = null; // what the reader wrote last: it must not come back and move the caret
  const text = bpeTextArea({
    limit: model.get("max_characters"),
    onText: stopAnd((value) => {
      written = value;
      model.set("text", value);
      put({ step: step() }); // a shorter text may have fewer steps
    }),
  });
  const walk = bpeWalk({
    go: stopAnd(go),
    step,
    play: () => {
      if (player.playing()) return player.stop();
      if (count() === 0) return undefined;
      if (step() === count()) go(0);
      return player.start();
    },
  });
  const message = nlElement("p", { class: "bpe-message", "data-nl": "message" });
  const numbers = bpeNumbers();
  const words = bpeWords();
  const result = nlElement("p", { class: "bpe-result", "data-nl": "ids" });
  const table = bpeTable();
  const merges = bpeMergeList();
  root.append(
    nlElement("div", { class: "nl-controls" }, mode.element),
    text.element,
    walk.element,
    message,
    nlElement(
      "div",
      { class: "bpe-body" },
      nlElement("div", { class: "bpe-left" }, words.element, result, numbers.element),
      nlElement("div", { class: "bpe-right" }, table.element, merges.element),
    ),
    nlElement(
      "p",
      { class: "nl-note" },
      "每个方框是一个符号，从单个字节开始。虚线框里的字节还拼不成完整的字符，写成十六进制；" +
        "␣ 是空格，↵ 是换行。文字先切成片段（词、数字、标点、空白），合并不跨过片段。",
    ),
  );

  function show() {
    const at = step();
    const page = calculator.page(at);
    mode.set(calculator.mode());
    walk.update(at, count(), player.playing());
    message.setAttribute("aria-live", player.playing() ? "off" : "polite");
    message.replaceChildren(...page.message);
    numbers.update(page.numbers);
    words.update(page.words, page.ids);
    result.hidden = !page.result;
    result.textContent = page.result ? `[${page.result.join(", ")}]` : "";
    table.update(page.table);
    merges.update(page.mergesCaption, page.merges);
  }
  const update = nlCoalesce(show);
  scope.follow(model, ["text", "mode", "step"], update);
  scope.follow(model, ["text"], () => {
    if (model.get("text") === written) return;
    written = null;
    text.set(model.get("text"));
  });
  scope.add(player.stop);

  nlWalkByKeys({
    root,
    scope,
    spare: "input, textarea",
    move: stopAnd((by) => go(step() + by)),
  });
  text.set(model.get("text"));
  show();
  return cleanup;
}

export default { render: bpeRender };
