"""The poems: what is shipped, how it was cleaned, and that nothing leaks between the parts."""

from __future__ import annotations

import collections
import hashlib
import io
import json
import lzma
import tarfile
from pathlib import Path

import pytest

from lmlib import assets
from lmlib.datasets import (
    OTHER_FORM,
    POEM_PACKAGE,
    REGULAR_FORMS,
    DatasetError,
    Poem,
    Splits,
    cache_dir,
    clean_verse,
    is_well_formed,
    jaccard,
    load_poems,
    poem_form,
    shingles,
    simplified,
)
from lmlib.datasets import _poem_collections as collections_module
from lmlib.datasets import _poems as poems_module
from lmlib.recipes import tang_poems

PARTS = ("train", "validation", "test")
SHA256 = "ba219fbda34766a81b52d802b90c6da7bdc79ff16d6ef04f3d01e6c53ebe5c7b"
TITLES = ("第一", "失题", "第三", "长", "宋诗", "又", "再")  # of the small package below
QUATRAIN = ("床前明月光", "疑是地上霜", "举头望明月", "低头思故乡")


@pytest.fixture(scope="module")
def tang() -> Splits[Poem]:
    return load_poems("tang")


def characters(poem: Poem) -> str:
    return "".join(poem.lines)


def leaks(splits: Splits[Poem], threshold: float) -> list[tuple[float, str, str]]:
    """Pairs of a held-out poem and one of another part that are as similar: exactly, all pairs."""
    held_out = [(name, poem) for name in PARTS[1:] for poem in getattr(splits, name)]
    sets = [shingles(characters(poem)) for _, poem in held_out]
    holders = collections.defaultdict(list)
    for i, shingled in enumerate(sets):
        for shingle in shingled:
            holders[shingle].append(i)
    found = []
    for name in PARTS:
        for poem in getattr(splits, name):
            shingled = shingles(characters(poem))
            common = collections.Counter(i for s in shingled for i in holders.get(s, ()))
            for i, count in common.items():
                if count >= threshold * len(sets[i]) and held_out[i][0] != name:
                    similarity = jaccard(shingled, sets[i])
                    if similarity >= threshold:
                        found.append((similarity, poem.text, held_out[i][1].text))
    return found


def couplets(poems: list[Poem]) -> set[str]:
    return {a + b for poem in poems for a, b in zip(poem.lines, poem.lines[1:], strict=False)}


# ------------------------------------------------------------------ what is shipped


def test_the_shipped_file_is_the_one_that_was_made() -> None:
    content = assets.path("corpora", "tang_poems.tsv.xz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert len(content) < 2_600_000


def test_sizes(tang: Splits[Poem]) -> None:
    assert [len(getattr(tang, name)) for name in PARTS] == [37_212, 500, 500]
    forms = collections.Counter(poem.form for name in PARTS for poem in getattr(tang, name))
    assert forms == {"五律": 14_806, "七绝": 10_931, "七律": 8_294, "五绝": 4_181}


def test_every_shipped_poem_is_a_clean_one(tang: Splits[Poem]) -> None:
    for name in PARTS:
        for poem in getattr(tang, name):
            assert is_well_formed(poem.text, poem.form)
            assert poem_form(poem.lines) == poem.form
            assert poem.dynasty == "唐"
            assert poem.marks == ""
            assert poem.title
            assert poem.author
            assert not set("（）[]〖〗\t\n") & set(poem.title + poem.author)
            assert not (poem.title + poem.author).startswith(" ")


def test_simplified_and_well_known(tang: Splits[Poem]) -> None:
    everything = [poem for name in PARTS for poem in getattr(tang, name)]
    texts = {poem.text: poem for poem in everything}
    found = texts["春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"]
    assert (found.title, found.author, found.form) == ("春晓", "孟浩然", "五绝")
    lines = {line for poem in everything for line in poem.lines}
    assert {"国破山河在", "无边落木萧萧下", "朝辞白帝彩云间"} <= lines
    used = collections.Counter(character for line in lines for character in line)
    assert used["乾"] > 100  # 乾坤
    assert used["干"] > 100  # dry
    for traditional in "風雲來時東門見無為國馬長":
        assert used[traditional] == 0


def test_no_poem_twice(tang: Splits[Poem]) -> None:
    everything = [characters(poem) for name in PARTS for poem in getattr(tang, name)]
    assert len(set(everything)) == len(everything)


def test_no_near_duplicate_across_the_parts(tang: Splits[Poem]) -> None:
    assert leaks(tang, 0.6) == []
    # The check itself sees what is there: some poems of a part are near-duplicates of each other.
    assert len(leaks(Splits(tang.train[1000:], tang.train[:1000], []), 0.6)) > 5


def test_no_near_duplicate_by_datasketch(tang: Splits[Poem]) -> None:
    datasketch = pytest.importorskip("datasketch")
    index = datasketch.MinHashLSH(num_perm=48, params=(16, 3))
    held_out = [(name, poem) for name in PARTS[1:] for poem in getattr(tang, name)]
    # Every third of the training part, for time; the test above looks at all.
    everything = [*held_out, *(("train", poem) for poem in tang.train[::3])]
    sets = [[s.encode() for s in shingles(characters(poem))] for _, poem in everything]
    signatures = datasketch.MinHash.generator(sets, num_perm=48, seed=1)
    candidates = 0
    for i, signature in enumerate(signatures):
        if i < len(held_out):
            index.insert(i, signature)
        for j in index.query(signature):
            if everything[i][0] != everything[j][0]:
                candidates += 1
                assert jaccard(set(sets[i]), set(sets[j])) < 0.6
    assert candidates > 0


def test_no_couplet_across_the_parts(tang: Splits[Poem]) -> None:
    train, validation, test = (couplets(getattr(tang, name)) for name in PARTS)
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_forms_only_choose(tang: Splits[Poem]) -> None:
    some = load_poems("tang", forms=["七绝", "五绝"])
    for name in PARTS:
        wanted = [poem for poem in getattr(tang, name) if poem.form in ("五绝", "七绝")]
        assert getattr(some, name) == wanted
    assert load_poems("tang", "五律").test == [p for p in tang.test if p.form == "五律"]


def test_neither_package_nor_converter_is_needed(monkeypatch) -> None:
    monkeypatch.setenv("NIHAO_LM_CACHE", "/nowhere")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(__import__("sys").modules, "opencc", None)
    assert len(load_poems().train) == 37_212
    with pytest.raises(DatasetError, match="opencc is not installed: pip install opencc"):
        simplified(["乾坤"])


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"part must be one of .*, got 'song'"):
        load_poems("song")
    with pytest.raises(ValueError, match=r"forms must be one of .*, got '排律'"):
        load_poems("tang", ["五绝", "排律"])
    with pytest.raises(ValueError, match=r"form must be one of .*, got '其他'"):
        is_well_formed("", OTHER_FORM)


# ------------------------------------------------------------------ forms


def test_text_and_form() -> None:
    poem = Poem("静夜思", "李白", "唐", "五绝", QUATRAIN)
    assert poem.text == "床前明月光，疑是地上霜。举头望明月，低头思故乡。"
    assert (
        poem._replace(lines=QUATRAIN[:3], marks="？、！").text
        == "床前明月光？疑是地上霜、举头望明月！"
    )
    assert poem._replace(lines=QUATRAIN[:3]).text.endswith("举头望明月，")
    assert poem_form(QUATRAIN) == "五绝"
    assert poem_form(QUATRAIN * 2) == "五律"
    seven = ["春风又绿江南岸"] * 8
    assert [poem_form(seven[:n]) for n in (4, 8, 6)] == ["七绝", "七律", "其他"]
    assert poem_form([*QUATRAIN[:3], "低头思故"]) == "其他"
    assert poem_form([]) == "其他"


@pytest.mark.parametrize(
    ("text", "form", "well"),
    [
        ("床前明月光，疑是地上霜。举头望明月，低头思故乡。", "五绝", True),
        ("床前明月光，疑是地上霜。举头望明月，低头思故乡。", "五律", False),
        ("床前明月光，疑是地上霜。举头望明月，低头思故乡", "五绝", False),
        ("床前明月光，疑是地上霜。举头望明月，低头思故乡。\n", "五绝", False),
        ("床前明月光，疑是地上霜，举头望明月，低头思故乡。", "五绝", False),
        ("床前明月光，疑是地上霜。举头望明月，低头思故。", "五绝", False),
        ("床前明a光，疑是地上霜。举头望明月，低头思故乡。", "五绝", False),
        ("床前明月光，疑是地上霜。" * 4, "五律", True),
        ("春风又绿江南岸，明月何时照我还。" * 2, "七绝", True),
        ("春风又绿江南岸，明月何时照我还。" * 4, "七律", True),
        ("春风又绿江南岸，明月何时照我还。" * 3, "七律", False),
    ],
)
def test_well_formed(text: str, form: str, well: bool) -> None:
    assert is_well_formed(text, form) is well


# ------------------------------------------------------------------ cleaning


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("道性如虛空，虛空何處（《傳燈錄》作「所」）修。", "道性如虛空，虛空何處修。"),
        ("今古事，何足問。（《甲（乙）》卷三。）（按：丙。）。", "今古事，何足問。"),
        ("得《竹枝》腸欲斷，爲君「試」發。", "得竹枝腸欲斷，爲君試發。"),
        ("去何從？？歸。", "去何從？歸。"),
        ("，山中，水上", "山中，水上。"),
        ("山 中，\u3000水上。", "山中，水上。"),
        ("𤃩水，㶁水。", "𤃩水，㶁水。"),
        ("貧富□，山。", None),
        ("○山，水。", None),
        ("{冫弓}山，水。", None),
        ("已夢[傅]巖，水。", None),
        ("林⿰木養，水。", None),
        ("山（未完，水。", None),
        ("\ue829山，水。", None),
        ("山1，水。", None),
        ("（全缺）", None),
        ("", None),
    ],
)
def test_cleaning(raw: str, clean: str | None) -> None:
    assert clean_verse(raw) == clean


def test_titles_and_authors() -> None:
    assert collections_module._clean_title("第一（二首（缺））\t[三]〖1〗 二") == "第一 二"
    assert collections_module._clean_title("（題擬）") == "失題"
    assert collections_module._clean_author("耿[𣲗]") == "耿𣲗"
    assert collections_module._clean_author("敦煌人[十一]") == "敦煌人"
    assert collections_module._clean_author(" 光\t威（聯句）") == "光 威"


def test_heaven_stays() -> None:
    pytest.importorskip("opencc")
    traditional = [
        "終日乾乾",
        "日乾夕惕",
        "乾坤",
        "乾隆",
        "乾符初得位",
        "旋坤轉乾兮",
        "乾關坤軸",
        "西乾有真宅",
    ]
    assert simplified(traditional) == [
        *(
            "终日乾乾",
            "日乾夕惕",
            "乾坤",
            "乾隆",
            "乾符初得位",
            "旋坤转乾兮",
            "乾关坤轴",
            "西乾有真宅",
        ),
    ]
    dry = ["淚未乾", "桑乾北", "拭乾清淚", "乾死", "井乾人立久", "", "餱糧乾"]
    assert simplified(dry) == ["泪未干", "桑干北", "拭干清泪", "干死", "井干人立久", "", "糇粮干"]


# ------------------------------------------------------------------ from the package


def record(title: str, *paragraphs: str) -> dict[str, object]:
    return {"title": title, "author": "某 甲", "paragraphs": list(paragraphs), "id": "0"}


SMALL = {
    "poet.tang.1000": [
        record("第三", "白日依山盡，黄河入海流。", "欲窮千里目，更上一層樓。"),
        record("重複", "床前明月光，疑是地上霜。", "舉頭望明月，低頭思故鄉。"),
    ],
    "poet.tang.0": [
        record(
            "第一（二首）\t[一]",
            "床前明月光，疑是地上霜。",
            "舉頭（一作「頂」）望明月，低頭思故鄉。",
        ),
        record("第二", "君不見，黄河之水天上來。", "奔流到海不復回！"),
        record("殘", "□前明月光，疑是地上霜。", "舉頭望明月，低頭思故鄉。"),
        record("（無題）", "終日乾乾路，秋風萬里心。", "故人相別後，明月照孤吟。"),
    ],
    "poet.song.0": [
        record("唐人詩", "白日依山盡，黄河入海流。", "欲窮千里目，更上一層樓。"),
        record("長", "白日依山盡，黄河入海流。", "春風吹又生，秋水共長天。"),
        record("宋詩", "孤村落日殘霞外，輕煙老樹寒鴉上。", "一點飛鴻影下處，青山綠水白草香。"),
        record("又", "千山鳥飛絕，萬徑人蹤滅。", "孤舟蓑笠翁，獨釣寒江雪。"),
        record("再", "松下問童子，言師採藥去。", "只在此山中，雲深不知處。"),
        record("詞", "明月幾時有，把酒問青天。", "不知天上宮闕。"),
    ],
    "authors.tang": [{"name": "x"}],
}


@pytest.fixture
def small_package(tmp_path: Path, monkeypatch) -> None:
    """A package of the same kind in a cache of its own."""
    pytest.importorskip("opencc")
    monkeypatch.setenv("NIHAO_LM_CACHE", str(tmp_path))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for folder in ("package/dist/quantangshi/", "package/dist/quantangshi/error/"):
            for name, records in SMALL.items():
                content = json.dumps(records if "error" not in folder else []).encode()
                info = tarfile.TarInfo(f"{folder}{name}.json")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / POEM_PACKAGE.file).write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    monkeypatch.setattr(collections_module, "POEM_PACKAGE", POEM_PACKAGE._replace(sha256=digest))
    stages = [stage._replace(held_out=0) for stage in collections_module._STAGES]
    stages[0] = stages[0]._replace(held_out=1)
    stages[1] = stages[1]._replace(held_out=2)
    monkeypatch.setattr(collections_module, "_STAGES", tuple(stages))


@pytest.mark.usefixtures("small_package")
def test_a_collection_is_read_in_order() -> None:
    poems = collections_module.read_collection("唐")
    assert [poem.title for poem in poems] == ["第一", "第二", "失题", "第三"]
    assert poems[0] == Poem("第一", "某 甲", "唐", "五绝", QUATRAIN)
    assert poems[1].form == OTHER_FORM
    assert poems[1].lines == ("君不见", "黄河之水天上来", "奔流到海不复回")
    assert poems[1].text == "君不见，黄河之水天上来。奔流到海不复回！"
    assert poems[2].lines[0] == "终日乾乾路"


@pytest.mark.usefixtures("small_package")
def test_everything_is_split_together() -> None:
    rows = collections_module.split_everything()
    part = {poem.title: name for name, poem in rows}
    # 唐人詩 is the third poem of the Tang again; 長 shares a couplet with it.
    assert list(part) == ["第一", "第二", "失题", "第三", "长", "宋诗", "又", "再", "词"]
    assert part["长"] == part["第三"]
    tang = [part[title] for title in ("第一", "失题", "第三")]
    assert tang.count("validation") == tang.count("test") == 1
    regular = [*tang, *(part[title] for title in ("长", "宋诗", "又", "再"))]
    assert regular.count("validation") == regular.count("test") == 2
    assert part["第二"] == part["词"] == "train"


@pytest.mark.usefixtures("small_package")
def test_all_forms_of_a_small_package(monkeypatch) -> None:
    tang_text = lzma.decompress(tang_poems.build()).decode()
    monkeypatch.setattr(poems_module, "_tang_text", lambda: tang_text)
    splits = load_poems("all", [*REGULAR_FORMS, OTHER_FORM])
    poems = [poem for name in PARTS for poem in getattr(splits, name)]
    rows = collections_module.split_everything()
    assert sorted(poems) == sorted(poem for _, poem in rows)
    for name, poem in rows:
        assert poem in getattr(splits, name)
    regular = load_poems("all")
    assert {p.title for n in PARTS for p in getattr(regular, n)} == {*TITLES}
    assert len({p.title for n in PARTS for p in getattr(load_poems("tang"), n)}) == 3
    assert tang_poems.build() == tang_poems.build()
    # Prepared: neither package nor client is needed any more.
    monkeypatch.setenv("PATH", "")
    (cache_dir() / "packages" / POEM_PACKAGE.file).unlink()
    assert load_poems("all") == regular


def test_all_poems_of_the_package(tang: Splits[Poem]) -> None:
    if not (cache_dir() / "prepared" / f"song_poems-{poems_module._VERSION}.txt.xz").is_file():
        pytest.skip("prepare them: python -c \"import lmlib.datasets as d; d.load_poems('all')\"")
    splits = load_poems("all")
    assert [len(getattr(splits, name)) for name in PARTS] == [227_072, 1200, 1200]
    for name in PARTS:
        of_tang = [poem for poem in getattr(splits, name) if poem.dynasty == "唐"]
        assert of_tang == getattr(tang, name)
    # Every fortieth poem of the training part, for time.
    sample = Splits(splits.train[::40], splits.validation, splits.test)
    assert leaks(sample, 0.6) == []
    train, *held_out = (couplets(getattr(splits, name)) for name in PARTS)
    assert not train & (held_out[0] | held_out[1])
    assert not held_out[0] & held_out[1]
