// The shipped models in the page: how they come there. In the published page the host loads them
// (widget_host.js, classic scripts beside the page, so that a page opened from disk works too); in
// a kernel Python sends them (lmlib.widgets._models). Either way only when somebody asks.

const LM_PATIENCE = 60; // seconds without a word from the kernel

/** The networks that the figures of this kind have loaded, by name. */
const lmLoaded = new Map();

/**
 * The network called `name`, see `lmNetwork`; `figure` is the figure's model. `onProgress` hears
 * how much has come, from 0 to 1. The message of an error is a sentence for the reader; another
 * call tries again, and loads what is still missing.
 */
async function lmLoad(figure, name, onProgress = () => {}) {
  if (!lmLoaded.has(name)) {
    const inPage = typeof globalThis.nlFigures?.loadModel === "function";
    const load = inPage ? lmFromPage : lmFromKernel;
    const network = lmNetwork(await load(figure, name, onProgress));
    if (!lmLoaded.has(name)) lmLoaded.set(name, network);
  }
  onProgress(1);
  return lmLoaded.get(name);
}

async function lmFromPage(figure, name, onProgress) {
  try {
    return await globalThis.nlFigures.loadModel(name, onProgress);
  } catch (error) {
    console.warn(`Model ${name}:`, error);
    const advice = "请检查网络后再试；如果你看的是下载的副本，请确认文件夹 _static/models 是完整的。";
    throw new Error(`模型没有载入。${advice}`, { cause: error });
  }
}

/** Asks Python, which answers with parts: { kind: "model", name, part, parts } and a buffer each. */
function lmFromKernel(figure, name, onProgress) {
  return new Promise((resolve, reject) => {
    const parts = new Map();
    let timer = null;
    const finish = (settle, result) => {
      clearTimeout(timer);
      figure.off("msg:custom", onMessage);
      settle(result);
    };
    const fail = (sentence) => finish(reject, new Error(sentence));
    const wait = () => {
      clearTimeout(timer);
      const silent = "模型没有载入：内核没有回答。它停了，或者正忙着运行别的格；等它空下来再试。";
      timer = setTimeout(fail, 1000 * LM_PATIENCE, silent);
    };
    function onMessage(content, buffers) {
      if (content?.kind !== "model" || content.name !== name) return;
      if (content.error) {
        fail(content.error);
        return;
      }
      parts.set(content.part, nlUint8(buffers[0]));
      onProgress(parts.size / content.parts);
      if (parts.size < content.parts) wait();
      else finish(resolve, lmJoined(parts));
    }
    figure.on("msg:custom", onMessage);
    onProgress(0);
    wait();
    figure.send({ kind: "model", name });
  });
}

/** Parts, by number, as one ArrayBuffer. */
function lmJoined(parts) {
  const inOrder = [...parts.keys()].sort((a, b) => a - b).map((part) => parts.get(part));
  const bytes = new Uint8Array(inOrder.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of inOrder) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes.buffer;
}

/**
 * What the reader sees of it: nothing at first, then a bar, and on failure the sentence and a
 * button. Call `touch()` when the reader touches what needs the network, as often as you like;
 * `onNetwork(network)` is called when it is there, once. `ready()` says whether it is.
 */
function lmLoader({ figure, name, onNetwork }) {
  const fill = nlElement("span", { class: "lm-fill" });
  const bar = nlElement(
    "div",
    {
      class: "lm-bar",
      role: "progressbar",
      "aria-label": "正在载入模型",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
      "data-nl": "model-progress",
    },
    fill,
  );
  const text = nlElement("p", { class: "lm-text", role: "status", "data-nl": "model-message" });
  const retry = nlButton({ name: "model-retry", text: "再试一次", onClick: () => touch() });
  const element = nlElement("div", { class: "lm-loader" }, text, bar, retry.element);
  let state = "waiting"; // then loading, and ready or failed

  function show(next, message) {
    state = next;
    text.textContent = message;
    bar.hidden = state !== "loading";
    retry.element.hidden = state !== "failed";
    element.hidden = state === "waiting" || state === "ready";
    element.dataset.state = state;
  }
  function progress(share) {
    const percent = Math.round(100 * share);
    fill.style.width = `${percent}%`;
    bar.setAttribute("aria-valuenow", String(percent));
  }
  async function touch() {
    if (state === "loading" || state === "ready") return;
    show("loading", "正在载入模型，只有这一次……");
    progress(0);
    let network = null;
    try {
      network = await lmLoad(figure, name, progress);
    } catch (error) {
      show("failed", error.message);
      return;
    }
    show("ready", "");
    onNetwork(network);
  }
  show("waiting", "");
  return { element, touch, ready: () => state === "ready" };
}
