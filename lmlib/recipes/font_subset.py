"""Make the figures' Chinese font: a subset of Noto Sans CJK SC under a name of its own.

    python -m lmlib.recipes.font_subset --source NotoSansCJK-Regular.ttc

The source is the collection that Debian's `fonts-noto-cjk` installs, or that
https://github.com/notofonts/noto-cjk releases. The same source, characters and fontTools give
the same bytes. Run it again when a test reports a character that the font lacks.
"""

import argparse
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lmlib import assets

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

FAMILY = "Nihao Sans SC"
POSTSCRIPT_NAME = "NihaoSansSC-Regular"
SOURCE_FAMILY = "Noto Sans CJK SC"

# Chinese punctuation and the full-width forms that Chinese text mixes in.
_PUNCTUATION = set("　、。〃々〇〈〉《》「」『』【】〔〕〖〗—…‘’“”￥①②③④⑤⑥⑦⑧⑨⑩") | {
    chr(code) for code in range(0xFF01, 0xFF5F)
}
# Latin and Greek are taken where the source draws them at their natural width. Signs that it
# draws one full em wide (√ × ≤ → ·) are left to DejaVu Sans, where formulas look right.
_NARROW = {
    chr(code)
    for start, stop in [(0x20, 0x7F), (0xA1, 0x100), (0x370, 0x400)]
    for code in range(start, stop)
} | set("–−′″‰")
_IDEOGRAPHS = [("\u4e00", "\u9fff"), ("\u3400", "\u4dbf"), ("\uf900", "\ufaff")]
_EM = 1000


def is_cjk(character: str) -> bool:
    """Tell whether a character is a Chinese ideograph (basic block, extension A, compatibility)."""
    return any(first <= character <= last for first, last in _IDEOGRAPHS)


def gb2312_level_1() -> set[str]:
    """Return the 3 755 everyday characters: rows 16 to 55 of GB/T 2312-1980."""
    rows, cells = range(0xB0, 0xD8), range(0xA1, 0xFF)
    codes = (bytes([row, cell]) for row in rows for cell in cells)
    # The last row ends five cells early; "ignore" turns those into "".
    return {code.decode("gb2312", "ignore") for code in codes} - {""}


def book_characters(root: Path) -> set[str]:
    """Return the ideographs that a figure of the book may have to draw.

    Those in the package's own text and in the chapters' code cells, and all of the shipped
    vocabulary: an untrained model finds any of its tokens as probable as 你.

    Args:
        root: the repository, the folder that holds `lmlib/` and `chapters/`.
    """
    sources = [f for f in (root / "lmlib").rglob("*") if f.suffix in {".py", ".js", ".css"}]
    texts = [file.read_text("utf-8") for file in [*sources, assets.vocab_path()]]
    for chapter in (root / "chapters").glob("*.ipynb"):
        cells = json.loads(chapter.read_text("utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return {character for text in texts for character in text if is_cjk(character)}


def build(source: Path, characters: set[str]) -> bytes:
    """Return the font file with `characters` as far as the source draws them well.

    Args:
        source: an OpenType collection (or font) with the face "Noto Sans CJK SC" in it.
        characters: the ideographs; punctuation and letters are added.

    Raises:
        ValueError: the source has no such face, or lacks an ideograph that is asked for.
    """
    from fontTools import subset
    from fontTools.ttLib import TTFont

    # The box around all glyphs stays the source's: measuring each glyph would double the time.
    font = TTFont(
        source, fontNumber=_face_number(source), recalcTimestamp=False, recalcBBoxes=False
    )
    drawn, advances = font.getBestCmap(), font["hmtx"].metrics
    lacking = sorted(c for c in characters if is_cjk(c) and ord(c) not in drawn)
    if lacking:
        raise ValueError(f"source {source.name} has no glyph for {''.join(lacking)}")
    narrow = {c for c in _NARROW if ord(c) in drawn and advances[drawn[ord(c)]][0] < _EM}

    # matplotlib applies no OpenType features and hints by itself: neither is kept.
    for tag in ("BASE", "GDEF", "GPOS", "GSUB", "VORG", "vhea", "vmtx"):
        if tag in font:
            del font[tag]
    options = subset.Options(hinting=False, glyph_names=False, recalc_timestamp=False)
    options.name_IDs = ["*"]
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(characters | _PUNCTUATION | narrow))
    subsetter.subset(font)
    _rename(font)

    buffer = io.BytesIO()
    font.save(buffer)
    return buffer.getvalue()


def _face_number(source: Path) -> int:
    """Return where in the collection the Simplified Chinese face stands."""
    from fontTools.ttLib import TTCollection, TTFont

    if source.suffix.lower() in {".ttc", ".otc"}:
        faces = TTCollection(source, lazy=True).fonts
    else:
        faces = [TTFont(source, lazy=True)]
    for number, face in enumerate(faces):
        if face["name"].getDebugName(1) == SOURCE_FAMILY:
            return number
    raise ValueError(f"source {source.name} has no face named {SOURCE_FAMILY!r}")


def _rename(font: "TTFont") -> None:
    """Give the font its own name, and keep copyright, designers and licence.

    A modified font may not pass for the original, nor may it collide with an installed one.
    """
    from fontTools import version as tool_version

    names = font["name"]
    source_version = names.getDebugName(5).split(";")[0]
    kept = {number: names.getDebugName(number) for number in (0, 9, 10, 13, 14)}
    names.names = []
    own = {
        1: FAMILY,
        2: "Regular",
        3: POSTSCRIPT_NAME,
        4: FAMILY,
        5: f"{source_version}; subset of {SOURCE_FAMILY} by fontTools {tool_version}",
        6: POSTSCRIPT_NAME,
    }
    for number, text in sorted((kept | own).items()):
        names.setName(text, number, 3, 1, 0x409)  # Windows, Unicode, English
    font["OS/2"].achVendID = "NONE"

    compact = font["CFF "].cff
    compact.fontNames = [POSTSCRIPT_NAME]
    top = compact.topDictIndex[0]
    top.FullName = top.FamilyName = FAMILY
    for part in top.FDArray:
        part.FontName = part.FontName.replace("NotoSansCJKsc-Regular", POSTSCRIPT_NAME)


def main(arguments: list[str] | None = None) -> int:
    """Write the font; the command line of this recipe."""
    parser = argparse.ArgumentParser(description="Make lmlib/assets/fonts/NihaoSansSC-Regular.otf")
    parser.add_argument("--source", type=Path, required=True, help="NotoSansCJK-Regular.ttc")
    parser.add_argument("--out", type=Path, help="where to write it (default: the shipped font)")
    options = parser.parse_args(arguments)

    package = assets.path()
    out = options.out or package / "fonts" / f"{POSTSCRIPT_NAME}.otf"
    characters = gb2312_level_1() | book_characters(package.parent.parent)
    data = build(options.source, characters)
    out.write_bytes(data)
    print(f"{out.name}: {len(characters)} ideographs, {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
