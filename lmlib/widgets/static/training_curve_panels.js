// TrainingCurve: what stands around the chart: the names of the runs, the numbers at the cursor,
// the texts that were written there, and the clock that plays a training.

const TC_PLAY_SECONDS = 14; // from the first step to the last
const TC_SHORT = 8; // characters; texts no longer than this stand side by side
const TC_REST_SECONDS = 1.6; // at each sample, for readers who want no motion

/** Buttons with the names of the runs, which show and hide them. */
function tcLegend(runs, onToggle) {
  const buttons = runs.map(({ name }, run) =>
    nlElement(
      "button",
      {
        class: "nl-button tc-run",
        type: "button",
        "data-nl": `run-${run}`,
        onclick: () => onToggle(name),
      },
      tcSwatch(run),
      nlElement("span", {}, name),
    ),
  );
  const group = { class: "nl-choices tc-legend", role: "group", "aria-label": "显示哪些曲线" };
  const update = (hidden) =>
    buttons.forEach((button, run) => {
      button.setAttribute("aria-pressed", String(!hidden.includes(runs[run].name)));
    });
  return { element: nlElement("div", group, ...buttons), update };
}

/** Which numbers a row of readings has: those that at least one run logged. */
export function tcFields(runs, measure, labels) {
  const has = (column) => runs.some((run) => run[column]?.some((value) => value !== null));
  const trained = measure in TC_MEASURES;
  const evaluation = trained ? "validation_loss" : measure;
  const names = { loss: "验证损失", perplexity: "验证困惑度" };
  const found = [
    ["step", "步", String],
    has("epoch") && ["epoch", "轮", (value) => tcNumber(value, 3)],
    has("tokens") && ["tokens", "词元", tcCount],
    has("learning_rate") && ["learning_rate", "学习率", (value) => tcNumber(value, 3)],
    ["loss", "损失", (value) => tcNumber(value)],
    ["perplexity", "困惑度", (value) => tcNumber(value)],
    has("grad_norm") && ["grad_norm", "梯度范数", (value) => tcNumber(value, 3)],
    has("seconds") && ["seconds", "用时", tcDuration],
    has(evaluation) && [
      "validation",
      names[measure] ?? tcMeasureText(measure, labels),
      (value) => tcNumber(value),
    ],
  ];
  return found.filter(Boolean).map(([column, name, format]) => ({ column, name, format }));
}

/** The numbers of every run at the cursor. */
function tcReadout(runs) {
  const element = nlElement("div", { class: "tc-readout", "data-nl": "readings" });
  const update = ({ readings, fields, shown }) => {
    const rows = readings.map((reading, run) => {
      if (!shown(run)) return "";
      const cells = fields.map(({ column, name, format }) => {
        const value = nlElement("dd", { "data-column": column }, format(reading[column]));
        if (column === "validation" && reading.validation_step !== null) {
          value.append(nlElement("small", {}, `第 ${reading.validation_step} 步`));
        }
        return nlElement("div", {}, nlElement("dt", {}, name), value);
      });
      return nlElement(
        "div",
        { class: "tc-reading", "data-nl": `reading-${run}` },
        nlElement("p", { class: "tc-reading-name" }, tcSwatch(run), runs[run].name),
        nlElement("dl", {}, ...cells),
      );
    });
    element.replaceChildren(...rows.filter(Boolean));
  };
  return { element, update };
}

function tcTexts(page, prompts, id) {
  const items = page.texts.map((text, i) =>
    nlElement(
      "li",
      {},
      ...(prompts?.[i] ? [nlElement("span", { class: "tc-prompt" }, `${prompts[i]} → `)] : []),
      text
        ? nlElement("span", { class: "tc-text" }, text)
        : nlElement("span", { class: "tc-nothing" }, "（什么也没写）"),
    ),
  );
  const attributes = { class: "tc-texts", "data-nl": "texts", "data-sample": id };
  return nlElement("ol", attributes, ...items);
}

/**
 * What every run wrote at the sample nearest to the cursor. All samples lie in one cell of a grid, all
 * but one of them unseen, so that the figure keeps its height while one scrubs.
 */
function tcSamples(series, promptsOf) {
  const parts = series.map(({ table, pages }, run) => {
    const heading = nlElement("span", { "data-nl": `sample-step-${run}` });
    const title = nlElement("p", { class: "tc-sample-title" }, tcSwatch(run), heading);
    const lists = pages.map((page) => tcTexts(page, promptsOf(table.name), page.index));
    const texts = pages.flatMap((page) => [...page.texts, ...(promptsOf(table.name) ?? [])]);
    const short = texts.every((text) => text.length <= TC_SHORT) ? " tc-short" : "";
    const stack = nlElement("div", { class: `tc-stack${short}` }, ...lists);
    const attributes = { class: `tc-sample tc-run-${run}`, "data-nl": `sample-${run}` };
    const own = nlElement("div", attributes, title, stack);
    return { heading, lists, pages, name: table.name, element: own };
  });
  const element = nlElement(
    "div",
    { class: "tc-samples", "aria-live": "polite" },
    ...parts.map((part) => part.element),
  );
  element.hidden = parts.every((part) => !part.pages.length);
  const update = ({ readings, shown, playing }) => {
    element.setAttribute("aria-live", playing ? "off" : "polite");
    parts.forEach(({ heading, lists, pages, name, element: own }, run) => {
      own.hidden = !shown(run) || !pages.length;
      const { sample } = readings[run];
      lists.forEach((list, i) => {
        const current = pages[i].index === sample;
        list.dataset.current = String(current);
        if (current) heading.textContent = `${name} 在第 ${pages[i].step} 步写的：`;
      });
    });
  };
  return { element, update };
}

/**
 * Plays from where the cursor is: onShare(share of the way) at each frame; or for readers who want
 * no motion onRest() every now and then, until that returns false. onChange(playing) tells.
 */
function tcPlayer({ onShare, onRest, onChange }) {
  let frame = 0;
  let timer = 0;
  let last = 0;
  let share = 0;
  const running = () => frame !== 0 || timer !== 0;
  const stop = () => {
    if (!running()) return;
    cancelAnimationFrame(frame);
    clearInterval(timer);
    frame = timer = 0;
    onChange(false);
  };
  const step = (now) => {
    // A page in the background gets no frames: what passed meanwhile does not count.
    share += Math.min(100, now - last) / (1000 * TC_PLAY_SECONDS);
    last = now;
    frame = requestAnimationFrame(step);
    onShare(Math.min(1, share));
    if (share >= 1) stop();
  };
  const start = (from) => {
    share = from;
    last = performance.now();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      timer = setInterval(() => onRest() || stop(), 1000 * TC_REST_SECONDS);
    } else {
      frame = requestAnimationFrame(step);
    }
    onChange(true);
  };
  return { start, stop, running };
}
