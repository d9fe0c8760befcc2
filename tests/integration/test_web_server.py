"""The script that finds, starts and stops web servers: where it looks, and that nothing is left."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import pytest

from deploy import web_server
from deploy.processes import ServerError
from deploy.web_server import APACHE, NGINX, DebianProgram, WebServer

programs = pytest.mark.parametrize("program", [NGINX, APACHE], ids=lambda program: program.name)


def script(path: Path, words: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{words}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Those of a machine that has a shell, and nothing else that is looked for."""
    monkeypatch.setattr(web_server, "SYSTEM_FOLDERS", "")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "mkdir", "cp"):
        (tools / name).symlink_to(f"/bin/{name}")
    return {"PATH": str(tools), "HOME": str(tmp_path)}


def test_a_server_shows_a_folder_and_ends(tmp_path: Path) -> None:
    (tmp_path / "a b").write_text("abc")
    with WebServer.start("python", tmp_path) as server:
        pid = server.pid
        for url in server.urls.values():
            with urllib.request.urlopen(url) as answer:  # noqa: S310 - a server on loopback
                assert b"a%20b" in answer.read()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    server.stop()
    assert (tmp_path / "a b").read_text() == "abc"


@programs
def test_a_named_program_wins(
    program: DebianProgram, environ: dict[str, str], tmp_path: Path
) -> None:
    named = script(tmp_path / "mine", "exit 0")
    on_path = script(Path(environ["PATH"], Path(program.binary).name), "exit 0")
    assert program.find({**environ, program.variable: str(named)})[0] == str(named)
    assert program.find(environ) == (str(on_path), "PATH")
    with pytest.raises(ServerError, match=f"{program.variable} is nowhere"):
        program.find({**environ, program.variable: "nowhere"})


@programs
def test_packages_are_downloaded_once(
    program: DebianProgram, environ: dict[str, str], tmp_path: Path
) -> None:
    said = tmp_path / "said"
    tools = Path(environ["PATH"])
    script(tools / "apt-get", f'echo "$@" >>{said}; : >one.deb')
    packed = script(tmp_path / "packed", "exit 0")
    script(tools / "dpkg", f'mkdir -p "$3/usr/sbin" && cp {packed} "$3/{program.binary}"')
    kept = tmp_path / ".cache/bucket-indexer"
    for _ in range(2):
        found, origin = program.find(environ)
        assert origin == "the cache folder"
        assert found == str(kept / f"{program.name}-debian" / program.binary)
    assert said.read_text().split() == ["download", *program.packages]
    assert len(list(kept.iterdir())) == 1


@programs
def test_what_cannot_be_had_is_said_and_leaves_nothing(
    program: DebianProgram, environ: dict[str, str], tmp_path: Path
) -> None:
    script(Path(environ["PATH"], "apt-get"), "echo no such package >&2; exit 100")
    with pytest.raises(ServerError, match=r"(?s)apt-get update.*no such package"):
        program.find(environ)
    assert list((tmp_path / ".cache/bucket-indexer").iterdir()) == []
