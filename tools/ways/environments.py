"""Environments of other Pythons and other versions, outside of .venv: made, filled, listed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tools.tree import ROOT, copy_to

WAYS = ROOT / "_build" / "ways"


def run(*command: str | Path) -> str:
    """Run a command in the repository and return what it printed; complaints go to the terminal.

    Raises:
        SystemExit: it failed.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nfailed, with status {done.returncode}: {' '.join(words)}")
    return done.stdout


def uv(*arguments: str | Path) -> str:
    """Run uv, which `make` installs beside this interpreter."""
    return run(sys.executable, "-m", "uv", "--quiet", *arguments)


def _is_python(program: Path | str, version: str) -> bool:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([str(program), "-c", code], capture_output=True, text=True)
    except OSError:
        return False
    return done.stdout.strip() == version


def find_python(version: str) -> Path:
    """An interpreter of this version, such as ``"3.12"``.

    Looked for in this order: the environment variable PYTHON312, ``python3.12`` on PATH, the
    versions of pyenv, this interpreter itself.

    Raises:
        SystemExit: there is none, or the variable names another one.
    """
    variable = "PYTHON" + version.replace(".", "")
    if named := os.environ.get(variable):
        if not _is_python(named, version):
            raise SystemExit(f"{variable}={named} is no Python {version}")
        return Path(named)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    # What is on PATH may be a stand-in that runs nothing, so each one is asked.
    for program in [*found, sys.executable]:
        if program and _is_python(program, version):
            return Path(program)
    raise SystemExit(f"no Python {version} was found; name one: make … {variable}=/path/to/python")


class Environment(NamedTuple):
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def install(self, *arguments: str | Path) -> None:
        """``uv pip install`` into it."""
        uv("pip", "install", "--python", self.python, *arguments)

    def packages(self) -> dict[str, str]:
        """Name → version of all that is installed in it."""
        listed = uv("pip", "freeze", "--python", self.python).splitlines()
        return dict(_name_and_version(line) for line in listed if line)


def _name_and_version(line: str) -> tuple[str, str]:
    name, version = re.split(r"==| @ ", line, maxsplit=1)
    return name.lower().replace("_", "-"), version


def new_environment(name: str, version: str) -> Environment:
    """An empty environment with a Python of this version, in place of the last one of its name."""
    shutil.rmtree(WAYS / name, ignore_errors=True)
    environment = Environment(WAYS / name / "env")
    uv("venv", "--python", find_python(version), environment.folder)
    return environment


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """A line for each package that was there before and is not as it was."""
    return [
        f"{name} {version} → {after.get(name, 'removed')}"
        for name, version in sorted(before.items())
        if after.get(name) != version
    ]


def address_of(file: Path) -> str:
    """What pip installs this very file from; without the hash it takes what it built last time."""
    return f"{file.as_uri()}#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}"


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel, of what git tracks or would track → both files."""
    source = folder / "source"
    shutil.rmtree(folder, ignore_errors=True)
    copy_to(source)
    uv("build", "--out-dir", folder, source)
    shutil.rmtree(source)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel
