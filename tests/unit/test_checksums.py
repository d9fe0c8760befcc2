"""Checksums, against known answers and against themselves in pieces.

Invariants
  * Answers are those of the specifications (RFC 1321, FIPS 180-4, RFC 3720, the NVMe specification,
    the BLAKE3 paper), not of the libraries.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.checksums import ALGORITHMS, new_hash
from indexer.errors import InvalidSetting

KNOWN = {
    ("md5", b""): "d41d8cd98f00b204e9800998ecf8427e",
    ("md5", b"abc"): "900150983cd24fb0d6963f7d28e17f72",
    ("sha256", b"abc"): "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ("crc32c", b""): "00000000",
    ("crc32c", b"123456789"): "e3069283",
    ("crc32c", bytes(32)): "8a9136aa",
    ("crc64nvme", b""): "0000000000000000",
    ("crc64nvme", b"123456789"): "ae8b14860a799888",
    ("blake3", b""): "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
}


@pytest.mark.parametrize(("algorithm", "data"), KNOWN)
def test_known_answers(algorithm: str, data: bytes) -> None:
    found = new_hash(algorithm)
    found.update(data)
    assert found.digest().hex() == KNOWN[algorithm, data]


def test_every_algorithm_has_a_known_answer() -> None:
    assert {algorithm for algorithm, _ in KNOWN} == set(ALGORITHMS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(pieces=st.lists(st.binary(max_size=9_000), max_size=4))
def test_pieces_make_no_difference(algorithm: str, pieces: list[bytes]) -> None:
    whole, in_pieces = new_hash(algorithm), new_hash(algorithm)
    whole.update(b"".join(pieces))
    for kind, piece in zip((bytes, bytearray, memoryview, bytes), pieces, strict=False):
        in_pieces.update(kind(piece))
    assert in_pieces.digest() == whole.digest()
    assert in_pieces.digest() == whole.digest()


@pytest.mark.parametrize("algorithm", ["MD5", "sha512", ""])
def test_others_are_not_known(algorithm: str) -> None:
    with pytest.raises(InvalidSetting, match="crc64nvme"):
        new_hash(algorithm)


def test_libraries_are_loaded_when_they_are_needed() -> None:
    script = (
        "import sys; from indexer.checksums import new_hash; new_hash('md5');"
        "sys.exit(bool({'awscrt', 'blake3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
