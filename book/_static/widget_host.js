// Runs the live figures of a page without a kernel.
//
// A classic script, so that it also works in a page opened from disk (file://), where modules
// cannot be imported by address. The page holds only `<div class="nl-live" data-figure
// data-model data-version>` around a picture. When it comes near the screen, two more classic
// scripts are loaded: one calls `nlFigures.addSource` with the figure's JavaScript, the other
// `nlFigures.addState` with its saved state. The source becomes a module by way of a blob URL.
// The weights of the book's models come the same way, in parts, when a figure asks for them.
"use strict";

/** The part of a Jupyter widget model that figures use: traits with change events. */
class NlModel {
  constructor(state) {
    this._state = state;
    this._listeners = new Map();
  }

  get(name) {
    return this._state[name];
  }

  /** Set one trait, or several given as an object; listeners hear of those that changed. */
  set(name, value) {
    const given = typeof name === "object" ? name : { [name]: value };
    const changed = Object.keys(given).filter((key) => !nlSame(this._state[key], given[key]));
    Object.assign(this._state, given);
    for (const key of changed) this._tell(`change:${key}`, this, given[key]);
    if (changed.length) this._tell("change", this);
  }

  /** There is no kernel to save to. */
  save_changes() {}

  /** Call `callback` on an event, or on each of several events set apart by spaces. */
  on(events, callback) {
    for (const event of events.split(/\s+/)) {
      if (!this._listeners.has(event)) this._listeners.set(event, []);
      this._listeners.get(event).push(callback);
    }
  }

  /** Undo `on`: for one callback, for all of an event, or (without arguments) for everything. */
  off(events, callback) {
    const names = events ? events.split(/\s+/) : [...this._listeners.keys()];
    for (const name of names) {
      const rest = (this._listeners.get(name) ?? []).filter((f) => callback && f !== callback);
      this._listeners.set(name, rest);
    }
  }

  _tell(event, ...values) {
    // A copy: a listener may take itself, or another one, off.
    for (const callback of [...(this._listeners.get(event) ?? [])]) callback(...values);
  }
}

/** Whether two trait values are equal; lists and objects by content. */
function nlSame(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || !a || !b) return false;
  if (ArrayBuffer.isView(a) || ArrayBuffer.isView(b)) return false;
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Base64 → DataView, the form in which Jupyter hands binary traits to a figure. */
function nlDecode(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new DataView(bytes.buffer);
}

/** Saved state → model. `buffers` holds [path to the trait, base64] pairs. */
function nlMakeModel({ state, buffers }) {
  for (const [path, base64] of buffers) {
    let holder = state;
    for (const key of path.slice(0, -1)) holder = holder[key];
    holder[path[path.length - 1]] = nlDecode(base64);
  }
  return new NlModel(state);
}

/** The figures of a page. `load(kind, url)` and `importText(source)` are the browser's part. */
class NlHost {
  constructor({ base, load, importText }) {
    this._base = base;
    this._load = load;
    this._importText = importText;
    this._states = new Map();
    this._sources = new Map();
    this._models = new Map();
    this._modules = new Map();
    this._weights = new Map(); // name of a network → promise of its bytes
    this._parts = new Map(); // file → bytes
    this._watchers = new Map(); // name of a network → who wants to hear how much of it has come
    this._index = null;
    this._indexVersion = "";
  }

  addState(id, saved) {
    this._states.set(id, saved);
  }

  addSource(name, source) {
    this._sources.set(name, source);
  }

  /** Which networks there are: name → { bytes, parts: [file] }. */
  addModels(index) {
    this._index = index;
  }

  addModelPart(file, base64) {
    this._parts.set(file, new Uint8Array(nlDecode(base64).buffer));
  }

  /**
   * The packed bytes of the network called `name`, an ArrayBuffer that all figures share.
   * `onProgress` hears what share of it has come. After a failure another call goes on from there.
   */
  async loadModel(name, onProgress = () => {}) {
    const watchers = this._watchers.get(name) ?? new Set();
    this._watchers.set(name, watchers.add(onProgress));
    const tell = (share) => watchers.forEach((watcher) => watcher(share));
    try {
      return await nlOnce(this._weights, name, () => this._readWeights(name, tell));
    } finally {
      watchers.delete(onProgress);
    }
  }

  async _readWeights(name, tell) {
    const folder = `${this._base}models/`;
    tell(0);
    if (!this._index) await this._load("script", `${folder}index.js?v=${this._indexVersion}`);
    const entry = this._index?.[name];
    if (!entry) throw new Error(`${folder}index.js names no model ${name}`);
    const missing = () => entry.parts.filter((file) => !this._parts.has(file));
    const loads = missing().map(async (file) => {
      await this._load("script", folder + file);
      tell(1 - missing().length / entry.parts.length);
    });
    // All of them, so that one failure throws away none of the others.
    const failed = (await Promise.allSettled(loads)).find(({ status }) => status === "rejected");
    if (failed) throw failed.reason;
    if (missing().length) throw new Error(`${folder}${missing()[0]} holds no part of ${name}`);
    const bytes = new Uint8Array(entry.bytes);
    let at = 0;
    for (const file of entry.parts) {
      bytes.set(this._parts.get(file), at);
      at += this._parts.get(file).length;
    }
    for (const file of entry.parts) this._parts.delete(file);
    return bytes.buffer;
  }

  /** Run the figure of a placeholder in `body`; resolves when it is drawn. */
  async run({ figure, model, version, models }, body) {
    if (models) this._indexVersion = models;
    const [module, shared] = await Promise.all([
      nlOnce(this._modules, figure, () => this._module(figure, version)),
      nlOnce(this._models, model, () => this._model(model, version)),
    ]);
    await module.default.render({ model: shared, el: body });
  }

  async _module(name, version) {
    const file = `${this._base}figures/src-${name}`;
    await Promise.all([
      this._load("style", `${file}.css?v=${version}`),
      this._load("script", `${file}.js?v=${version}`),
    ]);
    if (!this._sources.has(name)) throw new Error(`${file}.js holds no source of ${name}`);
    return this._importText(this._sources.get(name));
  }

  async _model(id, version) {
    const file = `${this._base}figures/${id}.js`;
    await this._load("script", `${file}?v=${version}`);
    if (!this._states.has(id)) throw new Error(`${file} holds no state of ${id}`);
    const saved = this._states.get(id);
    this._states.delete(id); // the model has it now
    return nlMakeModel(saved);
  }
}

/** Return the promise kept under `key`, or make it; one that failed is not kept. */
function nlOnce(promises, key, make) {
  if (!promises.has(key)) {
    const promise = make();
    promises.set(key, promise);
    promise.catch(() => promises.delete(key));
  }
  return promises.get(key);
}

/** Put a script or a style sheet into the page; resolves when it has run. */
function nlLoad(kind, url) {
  return new Promise((resolve, reject) => {
    const element = document.createElement(kind === "script" ? "script" : "link");
    if (kind === "script") element.src = url;
    else Object.assign(element, { rel: "stylesheet", href: url });
    element.onload = resolve;
    element.onerror = () => reject(new Error(`cannot load ${url}`));
    document.head.append(element);
  });
}

/** Import JavaScript text as a module. */
async function nlImportText(source) {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Give the focus to the first control of a figure that takes it (hidden ones do not). */
function nlFocusInside(body) {
  for (const control of body.querySelectorAll("button, input, select, [tabindex='0']")) {
    control.focus({ preventScroll: true });
    if (document.activeElement === control) return;
  }
}

/** Say something under the picture of a placeholder, in place of what was said before. */
function nlSay(place, text) {
  place.querySelector(".nl-live-note")?.remove();
  if (!text) return;
  const note = document.createElement("p");
  note.className = "nl-live-note";
  note.setAttribute("role", "status");
  note.textContent = text;
  place.append(note);
}

/** Start the figure of a placeholder, once. */
async function nlStart(host, place) {
  if (place.dataset.status !== "waiting") return;
  place.dataset.status = "loading";
  nlSay(place, "正在载入活图……");
  const body = document.createElement("div");
  body.className = "nl-live-body";
  try {
    place.append(body);
    await host.run(place.dataset, body);
    const focused = document.activeElement === place;
    for (const name of ["tabindex", "role", "aria-label"]) place.removeAttribute(name);
    nlSay(place, "");
    place.dataset.status = "ready";
    if (focused) nlFocusInside(body);
  } catch (error) {
    body.remove();
    place.dataset.status = "failed";
    nlSay(
      place,
      "活图没有启动，上面是它的静态图片。请刷新页面再试；如果仍然不行，请换用较新版本的浏览器。",
    );
    console.error(`Live figure ${place.dataset.figure} (${place.dataset.model}):`, error);
  }
}

/** Let each figure of the page start when it comes near the screen or gets the focus. */
function nlWatch(host) {
  const places = document.querySelectorAll(".nl-live");
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        nlStart(host, target);
      }
    },
    { rootMargin: "300px" },
  );
  for (const place of places) {
    place.dataset.status = "waiting";
    place.tabIndex = 0; // until it runs, the keyboard must find the place itself
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", "活图，正在等待载入");
    place.addEventListener("focusin", () => nlStart(host, place), { once: true });
    observer.observe(place);
  }
}

// In the tests, node has no document.
if (typeof document !== "undefined") {
  const base = new URL(".", document.currentScript.src).href;
  window.nlFigures = new NlHost({ base, load: nlLoad, importText: nlImportText });
  nlWatch(window.nlFigures);
}
