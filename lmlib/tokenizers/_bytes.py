"""Text as bytes, bytes as text, and the alphabet in which GPT-2 shows bytes."""

from __future__ import annotations

import codecs


def _byte_alphabet() -> tuple[str, ...]:
    """A visible character for each byte (Radford et al. 2019, GPT-2's `bytes_to_unicode`).

    The bytes that are a visible character of Latin-1 are shown as that; the others, white space
    and control characters, as those from U+0100 on, in order: the space is `Ġ`.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in visible else next(hidden)) for byte in range(256))


ALPHABET = _byte_alphabet()  # of each byte
BYTES = {char: byte for byte, char in enumerate(ALPHABET)}  # and back


def to_bytes(text: str) -> bytes:
    """`text` in UTF-8, in which a lone surrogate takes three bytes like its neighbours."""
    return text.encode("utf-8", "surrogatepass")


def from_bytes(data: bytes) -> str:
    """The text of `data`; what is not UTF-8 becomes U+FFFD, for each bad sequence one."""
    return data.decode("utf-8", "lmlib.surrogate_or_replace")


def _surrogate_or_replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    start = error.start
    first, second, third = (error.object[start : start + 3] + b"\0\0\0")[:3]
    if first == 0xED and 0xA0 <= second <= 0xBF and 0x80 <= third <= 0xBF:
        return chr((first & 0x0F) << 12 | (second & 0x3F) << 6 | third & 0x3F), start + 3
    return "\ufffd", error.end


codecs.register_error("lmlib.surrogate_or_replace", _surrogate_or_replace)
