"""Write the README's table of lmlib's files: ``python -m tools.readme``.

Each file's row is the first line of its docstring, so the table can be written anew at any time;
a test compares the two.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| `\S+\.py` \| .+ \|\n", flags=re.M)


def module_lines() -> list[str]:
    """One row for each file of lmlib: its name and what it says it is."""
    rows = []
    for path in sorted((ROOT / "lmlib").rglob("*.py")):
        summary = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        name = path.relative_to(ROOT / "lmlib").as_posix()
        rows.append(f"| `{name}` | {summary.splitlines()[0].replace('``', '`')} |")
    return rows


def main() -> None:
    """Put the rows where the README's old ones stand."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    places = [match.span() for match in ROW.finditer(text)]
    start, end = places[0][0], places[-1][1]
    rows = "".join(f"{row}\n" for row in module_lines())
    readme.write_text(text[:start] + rows + text[end:], encoding="utf-8")


if __name__ == "__main__":
    main()
