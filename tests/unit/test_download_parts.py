"""What a download keeps beside its files: the cache, the parts, and what is remembered of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.artifact.download.cache import CacheOptions
from indexer.artifact.download.local_paths import LocalPath, local_path
from indexer.artifact.download.part import Part
from indexer.artifact.download.sameness import content_key, is_lasting, provable, verifiable
from indexer.artifact.download.target import Target, Wanted
from indexer.artifact.originals import Original
from indexer.objects import Checksum, Pin

KEY, OTHER = b"k" * 32, b"o" * 32
MD5 = Checksum("md5", bytes(16))
PARTS = Checksum("sha256", bytes(32), "composite")


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    target = Target(tmp_path / "root")
    yield target
    target.close()


def wanted(path: bytes, size: int, content: bytes | None = KEY) -> Wanted:
    original = Original(path, Pin(size, etag="e"))
    return Wanted(original, "s3://b/k", LocalPath(tuple(path.split(b"/"))), content)


def put(target: Target, one: Wanted, body: bytes) -> str | None:
    name, fd = target.new_part()
    os.write(fd, body)
    (why,) = target.finish([(one, name, os.fstat(fd))])
    os.close(fd)
    return why


# --- the same content ----------------------------------------------------------------------------


def test_what_tells_content() -> None:
    plain = Original(b"a", Pin(3, etag="e"))
    assert content_key(plain, "s3://b/a") == content_key(replace(plain, path=b"b"), "s3://b/a")
    others = [
        replace(plain, pin=Pin(4, etag="e")),
        replace(plain, pin=Pin(3, etag="f")),
        replace(plain, pin=Pin(3, etag="e", version_id="v")),
        replace(plain, pin=Pin(3, mtime_ns=1)),
        replace(plain, checksum=Checksum("crc32c", b"1234")),
        replace(plain, checksum=MD5),
    ]
    keys = [content_key(one, "s3://b/a") for one in (plain, *others)]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    # A hash tells wherever the bytes are, and whatever else is known of them.
    hashed = replace(plain, checksum=MD5)
    assert content_key(hashed, "s3://b/a") == content_key(
        Original(b"z", Pin(3, version_id="v"), checksum=MD5), "gs://c/z"
    )
    assert content_key(Original(b"a", Pin(3)), "https://h/a") is None
    assert content_key(replace(plain, pin=Pin(3, etag="e", version_id="null")), "s3://b/a") == (
        content_key(plain, "s3://b/a")
    )
    assert is_lasting(plain)
    assert is_lasting(hashed)
    assert not is_lasting(Original(b"a", Pin(3, mtime_ns=1)))
    assert not is_lasting(Original(b"a", Pin(3, etag='W/"e"')))


def test_what_bytes_are_held_against() -> None:
    assert verifiable(Original(b"a", Pin(3), checksum=MD5)) == MD5
    assert verifiable(Original(b"a", Pin(3), checksum=PARTS)) is None
    assert verifiable(Original(b"a", Pin(3), checksum=Checksum("crc16", b"12"))) is None
    assert provable(Original(b"a", Pin(3, etag="0" * 32))) == MD5
    assert provable(Original(b"a", Pin(3, etag="0" * 32 + "-2"))) is None
    assert provable(Original(b"a", Pin(3, etag="E" * 32))) is None


# --- the cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["copy", "link"])
def test_the_cache_gives_what_was_put(mode: str, target: Target, tmp_path: Path) -> None:
    options = CacheOptions(tmp_path / "cache", "link" if mode == "link" else "copy", 100)
    cache = options.opened()
    assert cache is not None
    for name in (b"x", b"y"):
        (tmp_path / "root/.indexer-download/parts" / name.decode()).write_bytes(b"0123456789")
        cache.put(name * 32, 10, name, target.parts)
    assert cache.has(b"x" * 32, 10)
    assert not cache.has(b"x" * 32, 11)
    assert not cache.has(OTHER, 10)
    assert cache.hand_out(b"x" * 32, 10, b"handed", target.parts) is not None
    handed = tmp_path / "root/.indexer-download/parts/handed"
    assert handed.read_bytes() == b"0123456789"
    # Whoever writes to it, even bytes of the same number: it is not handed out any more.
    handed.chmod(0o600)
    handed.write_bytes(b"9876543210")
    assert cache.has(b"x" * 32, 10) == (mode == "copy")
    assert cache.has(b"y" * 32, 10)
    assert cache.hand_out(OTHER, 10, b"none", target.parts) is None
    # What is more than an eighth of it is not kept.
    (tmp_path / "root/.indexer-download/parts/z").write_bytes(b"0" * 13)
    cache.put(b"z" * 32, 13, b"z", target.parts)
    assert not cache.has(b"z" * 32, 13)


def test_what_was_used_longest_ago_leaves_the_cache_first(target: Target, tmp_path: Path) -> None:
    def put_all(numbers: range) -> None:
        cache = CacheOptions(tmp_path / "cache", bytes_max=80).opened()
        assert cache is not None
        for number in numbers:
            part = tmp_path / "root/.indexer-download/parts" / str(number)
            part.write_bytes(b"0" * 10)
            cache.put(bytes([number]) * 32, 10, str(number).encode(), target.parts)
        if numbers.start:
            assert cache.hand_out(bytes(32), 10, b"used", target.parts)
        cache.close()

    put_all(range(8))
    put_all(range(8, 12))
    cache = CacheOptions(tmp_path / "cache", bytes_max=80).opened()
    assert cache is not None
    kept = [number for number in range(12) if cache.has(bytes([number]) * 32, 10)]
    assert kept == [0, 5, 6, 7, 8, 9, 10, 11]
    assert CacheOptions(tmp_path / "cache", "off").opened() is None
    (tmp_path / "file").touch()
    assert CacheOptions(tmp_path / "file").opened() is None


# --- parts ---------------------------------------------------------------------------------------


def test_a_part_is_gone_on_with_only_if_it_is_of_the_same_content(target: Target) -> None:
    large = wanted(b"a", 20 << 20)
    part = Part(target, large)
    assert (part.done, part.was_begun) == (set(), False)
    part.mark(8 << 20)
    part.close()
    again = Part(target, large)
    assert (again.done, again.was_begun) == ({8 << 20}, True)
    # A line that was not written to its end counts for nothing.
    fd = os.open(again.name + b".ranges", os.O_WRONLY | os.O_APPEND, dir_fd=target.parts)
    os.write(fd, b"1677")
    os.close(fd)
    again.close()
    assert Part(target, large).done == {8 << 20}
    assert Part(target, replace(large, content=OTHER)).done == set()
    assert Part(target, large).done == set()


def test_a_part_is_not_gone_on_with_after_a_restart(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part(target, wanted(b"a", 9 << 20))
    part.mark(0)
    part.close()
    (tmp_path / "boot").write_text("another one")
    monkeypatch.setattr("indexer.artifact.download.part._BOOT_ID", tmp_path / "boot")
    assert Part(target, wanted(b"a", 9 << 20)).done == set()


# --- the target ----------------------------------------------------------------------------------


def test_what_a_file_is_told_by(tmp_path: Path) -> None:
    one = wanted(b"d/a", 3)
    target = Target(tmp_path / "root")
    assert target.look([one]) == ["missing"]
    assert put(target, one, b"abc") is None
    target.close()
    target = Target(tmp_path / "root")
    assert target.look([one]) == ["right"]
    assert target.look([replace(one, content=OTHER)]) == ["missing"]
    assert target.look([replace(one, content=None)]) == ["missing"]
    (tmp_path / "root/d/a").write_bytes(b"abd")
    assert target.look([one]) == ["missing"]
    assert target.look([wanted(b"d", 3)]) == ["blocked"]
    assert "in its way" in (put(target, wanted(b"d", 3), b"abc") or "")
    assert target.look([wanted(b"d/a/b", 3)]) == ["blocked"]
    assert target.files() == 1
    target.close()


def test_names_that_a_file_system_folds_are_remembered(tmp_path: Path) -> None:
    for _ in range(2):
        target = Target(tmp_path / "root")
        target.rules = replace(target.rules, folds=True)
        placed = [
            target.placed(path, local_path(path, 1, target.rules)).path
            for path in (b"A/x", b"B", b"a/X", b"a/y", b"b", b"b/c")
        ]
        target.close()
        assert placed == [b"A/x", b"B", b"a/%+/X", b"a/y", b"%+/b", b"%+/%+/b/c"]


def test_a_deep_path_has_room(target: Target, tmp_path: Path) -> None:
    path = b"/".join([b"d"] * 500)
    assert put(target, wanted(path, 1), b"x") is None
    assert (tmp_path / "root" / path.decode()).read_bytes() == b"x"
