"""Tokenizers: text to token ids and back.

- `CharTokenizer`: a token a character. Simple, and natural for Chinese.
- `BPETokenizer`: byte-level byte-pair encoding, as GPT-2 and its successors have it. Knows no
  unknown text.
- `WordPieceTokenizer`: BERT's. Normalises the text, and marks the inside of a word with `##`.

All have the interface of `Tokenizer`.
"""

from lmlib.tokenizers._base import BOS, EOS, PAD, SPECIALS, UNK, Tokenizer
from lmlib.tokenizers.bpe import BPETokenizer, Merge, Step
from lmlib.tokenizers.char import CharTokenizer
from lmlib.tokenizers.wordpiece import BERT_SPECIALS, EncodedPair, WordPieceTokenizer

__all__ = [
    "BERT_SPECIALS",
    "BOS",
    "EOS",
    "PAD",
    "SPECIALS",
    "UNK",
    "BPETokenizer",
    "CharTokenizer",
    "EncodedPair",
    "Merge",
    "Step",
    "Tokenizer",
    "WordPieceTokenizer",
]
