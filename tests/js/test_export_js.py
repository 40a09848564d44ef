"""A page can read what `lmlib.export.pack` writes: a small reader in JavaScript, run by node."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import torch

from lmlib.export import DTYPES, pack, unpack
from lmlib.gpt import GPT, GPTConfig
from lmlib.tokenizers import CharTokenizer

READER = """
const float16 = (bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
};
export function readPacked(buffer) {
  const n = Number(new DataView(buffer).getBigUint64(0, true));
  const manifest = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, n)));
  const tensors = {};
  for (const tensor of manifest.tensors) {
    const count = tensor.shape.reduce((a, b) => a * b, 1);
    const start = 8 + n + tensor.offset;
    const values = new Float32Array(count);
    if (tensor.dtype === "int8") {
      const rows = tensor.shape[0];
      const integers = new Int8Array(buffer, start, count);
      const scales = new Float32Array(buffer, 8 + n + tensor.scales, rows);
      for (let i = 0; i < count; i++)
        values[i] = integers[i] * scales[Math.floor((i * rows) / count)];
    } else {
      const bits = new Uint16Array(buffer, start, count);
      for (let i = 0; i < count; i++) values[i] = float16(bits[i]);
    }
    tensors[tensor.name] = values;
  }
  return { manifest, tensors };
}
"""
RUN = """(figure, input, bytes) => {
  const view = bytes(input);
  const end = view.byteOffset + view.byteLength;
  const { manifest, tensors } = figure.readPacked(view.buffer.slice(view.byteOffset, end));
  return {
    manifest,
    tensors: Object.fromEntries(Object.entries(tensors).map(([k, v]) => [k, Array.from(v)])),
  };
}"""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_page_reads_what_python_reads(run_node: Any, family: str, dtype: str) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 19, "d_model": 6, "num_heads": 1, "num_layers": 2, "max_seq_len": 5}
    model = GPT(getattr(GPTConfig, family)(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():  # subnormal float16 numbers too
            parameter.flatten()[:3] = torch.tensor([3e-7, -5.96e-8, 0.0])
    data = pack(model, CharTokenizer.train(["天地玄黄，“”"]), dtype)
    found = run_node(READER, RUN, base64.b64encode(data).decode())
    manifest, tensors = unpack(data)
    assert found["manifest"] == manifest
    assert found["tensors"].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(torch.tensor(found["tensors"][name]), tensor.flatten()), name
