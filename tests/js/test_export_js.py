"""A page can read what `lmlib.export.pack` writes: its reader in JavaScript, run by node."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import torch

from lmlib.export import DTYPES, pack, unpack
from lmlib.gpt import GPT, GPTConfig
from lmlib.tokenizers import CharTokenizer
from lmlib.widgets.base import source

# The page's own reader. A matrix keeps its integers and scales apart until it is multiplied.
RUN = """(figure, input, bytes) => {
  const view = bytes(input);
  const end = view.byteOffset + view.byteLength;
  const { manifest, matrix, vector } = figure.lmReadPacked(view.buffer.slice(view.byteOffset, end));
  const read = ({ name, shape }) => {
    if (shape.length !== 2) return Array.from(vector(name));
    const { columns, numbers, scales } = matrix(name);
    const scale = (at) => (scales ? scales[Math.floor(at / columns)] : 1);
    return Array.from(numbers, (number, at) => Math.fround(number * scale(at)));
  };
  return { manifest, tensors: Object.fromEntries(manifest.tensors.map((t) => [t.name, read(t)])) };
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
    found = run_node(
        source("forward_pass", ".js"), RUN, base64.b64encode(data).decode(), ["lmReadPacked"]
    )
    manifest, tensors = unpack(data)
    assert found["manifest"] == manifest
    assert found["tensors"].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(torch.tensor(found["tensors"][name]), tensor.flatten()), name
