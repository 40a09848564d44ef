"""The files that the package ships: font, vocabulary, corpora, checkpoints.

README.md beside this file gives each of them its origin, its licence and the command that
makes it again.
"""

from pathlib import Path

_ROOT = Path(__file__).resolve().parent


def path(*parts: str) -> Path:
    """Return the path of a shipped file or folder.

    >>> path("fonts", "OFL.txt").name
    'OFL.txt'

    Raises:
        FileNotFoundError: the package ships no such file.
        ValueError: the parts lead out of the assets folder.
    """
    found = _ROOT.joinpath(*parts).resolve()
    if not found.is_relative_to(_ROOT):
        raise ValueError(f"parts must stay inside the assets folder, got {'/'.join(parts)!r}")
    if not found.exists():
        shipped = sorted(entry.name for entry in _ROOT.iterdir() if entry.name[0] not in "._")
        raise FileNotFoundError(f"no asset {'/'.join(parts)!r}; the folder holds {shipped}")
    return found


def font_path() -> Path:
    """Return the path of Nihao Sans SC, the Chinese font of the figures (an OFL subset)."""
    return path("fonts", "NihaoSansSC-Regular.otf")


def vocab_path() -> Path:
    """Return the path of the 10 000-token character vocabulary, one token a line."""
    return path("vocab", "hanzi_10000.txt")
