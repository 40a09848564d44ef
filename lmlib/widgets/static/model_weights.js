// The shipped models in the page: their weights, as lmlib.export.pack wrote them. The model_*.js
// files stand behind common*.js and in front of the files of a figure that says "needs: model".
// They hold only `function` and `const` declarations whose names begin with `lm` or `LM_`.
//
// A vector is a Float32Array. A matrix is { rows, columns, numbers, scales }: its entry (i, j) is
// numbers[i · columns + j] · scales[i], where int8 numbers have a scale a row and others none.

/**
 * What `pack` wrote, an ArrayBuffer → { manifest, has, vector, matrix, linear, norm }: functions
 * that read a tensor by its name, or the tensors of a module by its path.
 */
function lmReadPacked(buffer) {
  const { manifest, start } = lmManifest(buffer);
  const entries = new Map(manifest.tensors.map((entry) => [entry.name, entry]));

  function view(Type, offset, count) {
    if (start + offset + count * Type.BYTES_PER_ELEMENT > buffer.byteLength) throw lmCutOff();
    return new Type(buffer, start + offset, count);
  }
  function entryOf(name) {
    const entry = entries.get(name);
    if (!entry) throw new Error(`模型文件里缺少「${name}」：请刷新页面再试。`);
    return entry;
  }
  function halves({ offset, shape }) {
    const count = shape.reduce((product, extent) => product * extent, 1);
    const bits = view(Uint16Array, offset, count);
    const numbers = new Float32Array(count);
    for (let i = 0; i < count; i++) numbers[i] = nlHalfToNumber(bits[i]);
    return numbers;
  }
  const has = (name) => entries.has(name);
  const vector = (name) => halves(entryOf(name));
  function matrix(name) {
    const entry = entryOf(name);
    const [rows, columns] = entry.shape;
    if (entry.dtype !== "int8") return { rows, columns, numbers: halves(entry), scales: null };
    const numbers = view(Int8Array, entry.offset, rows * columns);
    return { rows, columns, numbers, scales: view(Float32Array, entry.scales, rows) };
  }
  const vectorIfThere = (name) => (has(name) ? vector(name) : null);
  return {
    manifest,
    has,
    vector,
    matrix,
    linear: (path) => ({
      weight: matrix(`${path}.weight`),
      bias: vectorIfThere(`${path}.bias`),
    }),
    norm: (path) => ({ weight: vector(`${path}.weight`), bias: vectorIfThere(`${path}.bias`) }),
  };
}

function lmCutOff() {
  return new Error("模型文件不完整：请刷新页面再试。");
}

/** The manifest of a packed model, and where its data begin. */
function lmManifest(buffer) {
  if (buffer.byteLength < 8) throw lmCutOff();
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (8 + length > buffer.byteLength) throw lmCutOff();
  let manifest = null;
  try {
    manifest = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  } catch {
    // It is told below.
  }
  if (manifest?.format !== "lmlib-packed" || manifest.version !== 1) {
    throw new Error("模型文件的格式和程序的版本不合：请刷新页面再试。");
  }
  return { manifest, start: 8 + length };
}
