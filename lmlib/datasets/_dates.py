"""Dates in Chinese and English: a translation task with one right answer, as large as wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import lru_cache

from lmlib._checks import check_positive
from lmlib.datasets._pairs import Pair
from lmlib.datasets._splits import Splits, split_by_group

_DIGITS = "〇一二三四五六七八九"
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WEEKDAYS_ZH = "一二三四五六日"


@lru_cache(maxsize=100)
def _count(number: int) -> str:
    """A number from 1 to 99 as it is spoken: 二十一."""
    tens, ones = divmod(number, 10)
    text = ("" if tens < 2 else _DIGITS[tens]) + ("十" if tens else "")
    return text + (_DIGITS[ones] if ones else "")


@lru_cache(maxsize=1000)
def _year(year: int, zero: str = "〇") -> str:
    """A year digit by digit: 二〇二六."""
    return "".join(_DIGITS[int(digit)] for digit in str(year)).replace("〇", zero)


def _ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th; but 11th, 12th, 13th."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number in (11, 12, 13) else ends.get(number % 10, 'th')}"


def _written(day: date) -> Pair:
    month, name = _count(day.month), _MONTHS[day.month - 1]
    zh = f"{_year(day.year)}年{month}月{_count(day.day)}日"
    return Pair(zh, f"{name} {day.day}, {day.year}")


def _spoken(day: date) -> Pair:
    zh = f"{_year(day.year, '零')}年{_count(day.month)}月{_count(day.day)}号"
    return Pair(zh, f"the {_ordinal(day.day)} of {_MONTHS[day.month - 1]} {day.year}")


def _weekday(day: date) -> Pair:
    zh, en = _written(day)
    weekday = day.weekday()
    return Pair(f"{zh}，星期{_WEEKDAYS_ZH[weekday]}", f"{_WEEKDAYS[weekday]}, {en}")


def _figures(day: date) -> Pair:
    zh = f"{day.year}年{day.month}月{day.day}日"
    return Pair(zh, f"{day.day} {_MONTHS[day.month - 1]} {day.year}")


def _short(day: date) -> Pair:
    weekday = day.weekday()
    zh = f"{day.year}/{day.month}/{day.day} 周{_WEEKDAYS_ZH[weekday]}"
    return Pair(zh, f"{_WEEKDAYS[weekday][:3]}, {_MONTHS[day.month - 1][:3]} {day.day}, {day.year}")


_FORMS: dict[str, Callable[[date], Pair]] = {
    "written": _written,
    "spoken": _spoken,
    "weekday": _weekday,
    "figures": _figures,
    "short": _short,
}
DATE_FORMS = tuple(_FORMS)
"""The forms of `load_date_pairs`, by name."""


def load_date_pairs(
    forms: Sequence[str] = DATE_FORMS,
    *,
    first_year: int = 1950,
    last_year: int = 2049,
    validation: int = 300,
    test: int = 300,
) -> Splits[Pair]:
    """Every date of some years, in several forms; the Chinese form says which the English one is.

    In this order::

        written    二〇二六年十一月二十一日            November 21, 2026
        spoken     二零二六年十一月二十一号            the 21st of November 2026
        weekday    二〇二六年十一月二十一日，星期六    Saturday, November 21, 2026
        figures    2026年11月21日                      21 November 2026
        short      2026/11/21 周六                     Sat, Nov 21, 2026

    A date is on one side of the split with all its forms. Made by us, free of any licence.

    >>> splits = load_date_pairs(["written"], first_year=2026, last_year=2026)
    Traceback (most recent call last):
    ValueError: validation and test must leave dates to train on, got 300 and 300 of 365

    Args:
        forms: which of `DATE_FORMS`.
        first_year, last_year: of the dates, 1 to 9999; both included.
        validation: number of dates in the validation split, each in all forms.
        test: number of dates in the test split.

    Returns:
        the splits, each in the order of the dates.

    Raises:
        TypeError, ValueError: a value is not allowed, or nothing is left to train on.
    """
    if isinstance(forms, str) or not forms or set(forms) - set(DATE_FORMS):
        raise ValueError(f"forms must be some of {DATE_FORMS}, got {forms!r}")
    for name, value in (
        *(("first_year", first_year), ("last_year", last_year)),
        *(("validation", validation), ("test", test)),
    ):
        check_positive(name, value)
    if not first_year <= last_year <= 9999:
        raise ValueError(
            f"first_year must be at most last_year, and that at most 9999, "
            f"got {first_year} and {last_year}"
        )
    first, last = date(first_year, 1, 1), date(last_year, 12, 31)
    days = [first + timedelta(i) for i in range((last - first).days + 1)]
    if validation + test >= len(days):
        raise ValueError(
            f"validation and test must leave dates to train on, got {validation} and {test} "
            f"of {len(days)}"
        )
    iso = [day.isoformat() for day in days]
    splits = split_by_group(iso, range(len(iso)), validation=validation, test=test)
    sides = (splits.train, splits.validation, splits.test)
    return Splits(*(_in_forms(side, forms) for side in sides))


def _in_forms(days: Sequence[str], forms: Sequence[str]) -> list[Pair]:
    return [_FORMS[form](date.fromisoformat(day)) for day in days for form in forms]
