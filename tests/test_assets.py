"""The shipped files are where the package says, and README.md accounts for each."""

from __future__ import annotations

import pytest

from lmlib import assets


def test_font_and_vocabulary_are_found() -> None:
    assert assets.font_path().is_file()
    assert assets.vocab_path().is_file()
    assert assets.path("fonts", "OFL.txt").parent == assets.path("fonts")


def test_a_missing_asset_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"no asset 'fonts/Times\.otf'; .*'fonts'"):
        assets.path("fonts", "Times.otf")


def test_no_path_leads_out_of_the_folder() -> None:
    with pytest.raises(ValueError, match="must stay inside"):
        assets.path("..", "__init__.py")


def shipped() -> list[str]:
    """Every file, and the folder of every model and experiment, whose files stand for one thing."""
    root = assets.path()
    ours = {root / "__init__.py", root / "README.md", root / "fonts" / "OFL.txt"}
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    paths = [path.relative_to(root) for path in files if path not in ours]
    folders = ("models", "experiments")
    return sorted(
        {"/".join(p.parts[:2]) + "/" if p.parts[0] in folders else p.as_posix() for p in paths}
    )


@pytest.mark.parametrize("asset", shipped(), ids=str)
def test_readme_gives_origin_licence_and_command_of(asset: str) -> None:
    readme = assets.path("README.md").read_text("utf-8")
    rows = [line for line in readme.splitlines() if line.startswith(f"| `{asset}`")]
    assert len(rows) == 1, f"README.md must have one row for {asset}"
    cells = [cell.strip() for cell in rows[0].strip("|").split(" | ")]
    assert len(cells) == 5
    assert all(cells), "a cell is empty"
    assert "https://" in cells[2]
    assert "python -m lmlib.recipes." in cells[4]
