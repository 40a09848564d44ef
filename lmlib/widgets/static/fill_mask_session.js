// FillMask: the sentences as they stand, and one reading after the other, of which the newest wins.
//
// Phases: "stored" (what the page carries), "waiting" (for the model), "reading", "done".
// `message` says why the sentences are not read. `current` tells whether `result` is of the
// sentences as they stand; if not, it is of those before.

/**
 * `touch()` asks for the model, which `arrived(network)` hands over; `pause()` is waited for before
 * a reading, so that what was typed is seen first; `onChange()` hears of each change of `state()`.
 */
export function fmSession({ lines, stored, shape, touch, pause, onChange }) {
  const { longest, specials } = shape;
  let [a, b] = lines;
  let state = { phase: "stored", message: "", result: stored };
  let network = null;
  let turn = 0;

  const tell = (changes) => {
    state = { ...state, ...changes };
    onChange();
  };

  async function read() {
    const mine = (turn += 1);
    tell({ phase: "reading", message: "" });
    await pause();
    if (mine !== turn) return;
    try {
      tell({ phase: "done", result: fmRead(network, a, b, specials) });
    } catch (error) {
      tell({ phase: "done", message: error.message }); // a sentence for the reader
    }
  }

  /** Reads the sentences: now, or when the model is there. */
  function ask() {
    turn += 1;
    const message = fmProblem(a, b, longest);
    if (message) return tell({ phase: network ? "done" : "stored", message });
    if (state.result.key === fmKey(a, b)) return tell({ phase: network ? "done" : "stored", message });
    if (network) return read();
    tell({ phase: "waiting", message });
    return touch();
  }

  return {
    state: () => ({ ...state, a, b, current: state.result.key === fmKey(a, b) }),
    /** The sentences are these now. */
    set(first, second) {
      [a, b] = [first, second];
      return ask();
    },
    /** The model is there: it reads what stands, also what the page had stored. */
    arrived(loaded) {
      network = loaded;
      return fmProblem(a, b, longest) ? undefined : read();
    },
    stop() {
      turn += 1;
    },
  };
}
