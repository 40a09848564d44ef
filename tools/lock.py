"""Write requirements.txt: every package the book is built and tested with, pinned.

Run by ``make lock``. One file serves Python 3.10 to 3.13 on Linux, macOS and Windows,
through environment markers. The accelerator libraries that some builds of torch depend on
are left out: pip installs what the build of torch it picks asks for.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
# torch is pinned here, not in pyproject.toml, which must accept what a hosted notebook has.
PINS = ("torch==2.13.0",)
ACCELERATOR = re.compile(r"^(nvidia-|cuda-|triton)")
HEADER = """\
# Everything the book is built and tested with, pinned. Written by `make lock`; do not edit.
"""


def main() -> int:
    """Resolve the extras of pyproject.toml and write requirements.txt."""
    extras = ["lab", "recipes", "book", "test"]
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "--universal", "--python-version", "3.10",
        "--no-header", "--no-annotate", "--quiet", "pyproject.toml", "-",
    ]  # fmt: skip
    for extra in extras:
        command += ["--extra", extra]
    resolved = subprocess.run(
        command, input="\n".join(PINS), cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE
    ).stdout
    pins = [line for line in resolved.splitlines() if not ACCELERATOR.match(line)]
    (ROOT / "requirements.txt").write_text(HEADER + "\n".join(pins) + "\n-e .\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
