"""The Chinese font: its name, its licence, its characters, and that the recipe remakes it."""

from __future__ import annotations

from pathlib import Path

import fontTools
import pytest
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from lmlib import assets
from lmlib.recipes import font_subset

ROOT = Path(__file__).parent.parent
DEBIAN = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def font() -> TTFont:
    return TTFont(assets.font_path(), lazy=True)


@pytest.fixture(scope="module")
def drawn(font: TTFont) -> set[str]:
    return {chr(code) for code in font.getBestCmap()}


def test_it_has_a_name_of_its_own(font: TTFont) -> None:
    names = {record.nameID: str(record) for record in font["name"].names}
    assert names[1] == names[4] == FT2Font(str(assets.font_path())).family_name == "Nihao Sans SC"
    assert font["CFF "].cff.fontNames == ["NihaoSansSC-Regular"]
    for number in (1, 2, 3, 4, 6):
        assert "Noto" not in names[number]
        assert "Source" not in names[number]


def test_it_keeps_copyright_and_licence(font: TTFont) -> None:
    names = {record.nameID: str(record) for record in font["name"].names}
    assert "Adobe" in names[0]
    assert "SIL Open Font License, Version 1.1" in names[13]
    licence = assets.path("fonts", "OFL.txt").read_text("utf-8")
    assert "SIL OPEN FONT LICENSE Version 1.1 - 26 February 2007" in licence
    assert "Copyright 2014-2021 Adobe" in licence
    for part in ("PREAMBLE", "DEFINITIONS", "PERMISSION & CONDITIONS", "TERMINATION", "DISCLAIMER"):
        assert f"\n{part}\n" in licence


def test_gb2312_level_1_is_complete(drawn: set[str]) -> None:
    everyday = font_subset.gb2312_level_1()
    assert len(everyday) == 3755
    assert {"啊", "座", "你", "好", "世", "界"} <= everyday
    assert everyday <= drawn


def test_every_character_of_the_book_is_in_it(drawn: set[str]) -> None:
    used = font_subset.book_characters(ROOT)
    assert {"注", "意", "力"} <= used
    missing = "".join(sorted(used - drawn))
    assert not missing, f"missing {missing}: run python -m lmlib.recipes.font_subset --source …"


def test_every_token_of_the_vocabulary_can_be_drawn(drawn: set[str]) -> None:
    fallback = FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap()
    tokens = set(assets.vocab_path().read_text("utf-8")) - {"\n"}
    assert not {c for c in tokens - drawn if ord(c) not in fallback}


def test_punctuation_letters_and_signs(drawn: set[str]) -> None:
    assert set("，。、；：？！（）「」『』《》“”…—") <= drawn
    assert set("abcXYZ0189+-=<>|αβπσΣ−") <= drawn
    # One em wide in the source, and so left to the fallback font.
    assert not set("√×≤→⊕") & drawn


def test_it_stays_small() -> None:
    assert assets.font_path().stat().st_size < 2.4 * MEGABYTE


def test_a_chapter_that_needs_a_new_character_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "lmlib").mkdir()
    (tmp_path / "lmlib" / "code.py").write_text('label = "㐀"', "utf-8")
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "x.ipynb").write_text(
        '{"cells": [{"cell_type": "code", "source": ["# 㐁"]},'
        ' {"cell_type": "markdown", "source": ["㐂"]}]}',
        "utf-8",
    )
    assert font_subset.book_characters(tmp_path) >= {"㐀", "㐁"}
    assert "㐂" not in font_subset.book_characters(tmp_path)


def test_a_wrong_source_is_refused() -> None:
    with pytest.raises(ValueError, match="no face named 'Noto Sans CJK SC'"):
        font_subset.build(assets.font_path(), {"你"})


needs_source = pytest.mark.skipif(not DEBIAN.is_file(), reason="Noto Sans CJK is not installed")


@needs_source
def test_an_ideograph_that_the_source_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="has no glyph for \ufadf"):
        font_subset.build(DEBIAN, {"你", "\ufadf"})


@needs_source
def test_two_runs_of_the_recipe_give_the_same_bytes(tmp_path: Path, drawn: set[str]) -> None:
    first = font_subset.build(DEBIAN, {"你", "好"})
    assert first == font_subset.build(DEBIAN, {"你", "好"})
    (tmp_path / "font.otf").write_bytes(first)
    small = TTFont(tmp_path / "font.otf")
    ideographs = {chr(code) for code in small.getBestCmap() if font_subset.is_cjk(chr(code))}
    assert ideographs == {"你", "好"}


@needs_source
def test_the_recipe_remakes_the_shipped_font(font: TTFont, drawn: set[str]) -> None:
    version = font["name"].getDebugName(5)
    if not version.endswith(f"fontTools {fontTools.version}"):
        pytest.skip(f"the shipped font is {version!r}, this is fontTools {fontTools.version}")
    ideographs = {character for character in drawn if font_subset.is_cjk(character)}
    assert font_subset.build(DEBIAN, ideographs) == assets.font_path().read_bytes()


@needs_source
def test_the_command_writes_the_font(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(font_subset, "gb2312_level_1", lambda: {"你"})
    monkeypatch.setattr(font_subset, "book_characters", lambda root: {"好"})
    out = tmp_path / "font.otf"
    assert font_subset.main(["--source", str(DEBIAN), "--out", str(out)]) == 0
    assert FT2Font(str(out)).family_name == "Nihao Sans SC"
    assert capsys.readouterr().out == f"font.otf: 2 ideographs, {out.stat().st_size} bytes\n"
