"""Cleaning of modern Chinese text, step by step: widths, contacts, what is no text at all."""

from __future__ import annotations

import re

HANZI = "\u3400-\u9fff"
# What Chinese text writes full-width; any other full-width letter, digit or sign becomes ASCII.
_KEPT_WIDE = "，！？：；（）"
_TO_NARROW = {
    code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code) not in _KEPT_WIDE
} | {0x3000: 0x20}
_TO_WIDE = {ord(wide) - 0xFEE0: wide for wide in _KEPT_WIDE}
_NARROW = re.compile(rf"(?<=[{HANZI}])[,!?:;()]|[,!?:;()](?=[{HANZI}])")
_STOP = re.compile(rf"(?<=[{HANZI}])\.(?!\.)")

# In this order: an address may hold digits, a QQ number is a run of digits like any other. Digits
# that repeat one digit are no number: 55555 is how one weeps (呜呜呜), 666 how one applauds.
_CONTACTS = (
    (re.compile(r"(?:https?://|www\.)[!-~]+", re.IGNORECASE), "[网址]"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[a-z]+)+", re.IGNORECASE | re.ASCII), "[邮箱]"),
    (re.compile(rf"(qq[^\d{HANZI}]{{0,3}})\d{{5,12}}(?!\d)", re.IGNORECASE), r"\1[号码]"),
    (
        re.compile(
            r"(?<!\d)(?:1[3-9]\d{9}|0\d{2,3}[- ]?\d{7,8}|[48]00-?\d{3}-?\d{4})(?!\d)",
        ),
        "[电话]",
    ),
    (re.compile(r"(?<!\d)(?!(\d)\1+(?!\d))\d{7,}"), "[号码]"),
)


def normalize_width(text: str) -> str:
    """One form for what exists in two widths, as ３Ｇ and 3G.

    Letters and digits become half-width. Of the punctuation ，！？：；（） become full-width where
    a Chinese character stands beside them, and a full stop behind one becomes 。 (but not dots).

    >>> normalize_width("键盘不错,３Ｇ内存够用．就是(有点)吵...")
    '键盘不错，3G内存够用。就是（有点）吵...'

    Args:
        text: any.
    """
    text = text.translate(_TO_NARROW)
    text = _NARROW.sub(lambda match: _TO_WIDE[ord(match[0])], text)
    return _STOP.sub("。", text)


def mask_contacts(text: str) -> str:
    """Phone and QQ numbers, e-mail and web addresses, any number of 7 digits or more: masked.

    So what a model learns cannot be how to reach somebody. Names are left as they are: to find
    them takes more than a pattern.

    >>> mask_contacts("联系13800000000，QQ：100000001，a.b@example.com，订单4491950")
    '联系[电话]，QQ：[号码]，[邮箱]，订单[号码]'
    >>> mask_contacts("2008-06-04入住，288元，55555555")  # neither dates nor weeping
    '2008-06-04入住，288元，55555555'

    Args:
        text: digits and signs half-width: see `normalize_width`.
    """
    for pattern, mask in _CONTACTS:
        text = pattern.sub(mask, text)
    return text


def is_chinese_text(text: str) -> bool:
    """At least two Chinese characters, and nothing that a wrong encoding left behind.

    >>> is_chinese_text("安静"), is_chinese_text(":)"), is_chinese_text("也不能\\ue139期")
    (True, False, False)

    Args:
        text: any.
    """
    # Characters for private use and U+FFFD: bytes that somebody decoded by the wrong table.
    broken = re.search("[\ue000-\uf8ff\ufffd]", text)
    return broken is None and len(re.findall(f"[{HANZI}]", text)) >= 2
