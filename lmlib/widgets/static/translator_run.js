// Translator: one translation after the other, of which the newest wins.
//
// A result is { text, source (names), unknown (characters), translation, steps, ended }; a step as
// the network gives it: { piece, probability, top, cross[layer][head] }.
// Phases: "stored" (what the page carries), "waiting" (for the model), "running", "done", "cut"
// (no end within the limit), "stopped" (the reader went on typing). `message` says why a text was
// not translated; what stood there before stays.

/**
 * `touch()` asks for the model, which `arrived(network)` hands over; `pause()` is waited for
 * after each piece; `onStart(text)` hears what is translated, `onChange(state)` of each change.
 */
export function trSession({ stored, limits, touch, pause, onStart, onChange }) {
  const { longest, most, eos } = limits;
  let state = { phase: "stored", message: "", result: stored };
  let network = null;
  let waiting = null; // reads the text, once the model is there
  let turn = 0;

  const tell = (changes) => {
    state = { ...state, ...changes };
    onChange(state);
  };
  const refuse = (message) => {
    const { phase } = state;
    tell({ message, phase: { running: "stopped", waiting: "stored" }[phase] ?? phase });
  };

  const named = (token) => (token.id === eos ? { ...token, piece: TR_END } : token);

  async function go(text) {
    const mine = (turn += 1);
    const { tokenizer } = network;
    let run;
    let result;
    try {
      const ids = tokenizer.encode(text);
      const characters = [...text];
      const unknown = tokenizer.unknown(text).map((place) => characters[place]);
      const source = trSource(ids, tokenizer.decode);
      run = network.start(ids, { limit: most });
      result = { text, source, unknown, translation: "", steps: [], ended: false };
    } catch (error) {
      refuse(error.message); // a sentence for the reader, before anything was computed
      return;
    }
    tell({ phase: "running", message: "", result });
    onStart(text); // after that: who hears of the new text sees that it is being translated
    while (!run.done) {
      const step = run.step();
      const ended = step.id === eos;
      const steps = [...result.steps, { ...named(step), top: step.top.map(named) }];
      result = { ...result, steps, ended, translation: tokenizer.decode(run.ids) };
      tell({ result });
      await pause();
      if (mine !== turn) return;
    }
    tell({ phase: result.ended ? "done" : "cut" });
  }

  /** Translates what `read()` gives: now, or what it gives when the model is there. */
  function ask(read) {
    turn += 1;
    waiting = null;
    const text = read().trim();
    const problem = trProblem(text, longest);
    if (problem) return refuse(problem);
    if (network) return go(text);
    waiting = read;
    tell({ phase: "waiting", message: "" });
    return touch();
  }

  return {
    ask,
    state: () => state,
    arrived(loaded) {
      network = loaded;
      return waiting ? ask(waiting) : undefined;
    },
    /** The reader has changed the text: what is being translated is not wanted any more. */
    edited() {
      if (state.phase === "running") {
        turn += 1;
        tell({ phase: "stopped", message: "" });
      } else if (state.message) {
        tell({ message: "" });
      }
    },
    stop() {
      turn += 1;
      waiting = null;
    },
  };
}
