"""Content to measure on: bytes that nothing could guess, in folders and as objects.

Invariants
  * The bytes of a file or object follow from its name, size and salt alone.
  * A folder is in memory where there is room for it, so that no disk has a part in the figures.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import Endpoint
from indexer.testing.buckets import fill
from indexer.testing.keysets import keys

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in there
SHAPE: Final = "tree"

UNPACKED_BYTES_MAX: Final = 1 << 17
"""Objects that are smaller go up in archives, which hold thousands of them."""

PIECE_BYTES_MAX: Final = 1 << 27
"""Python makes fewer than 2^31 random bits at once."""

SPARE: Final = 2
"""How many times what is needed has to be free there."""

FILE_BYTES_LEAST: Final = 4_096
"""What a file takes of a file system, as small as it may be."""


@dataclass(frozen=True, slots=True)
class Files:
    """So many files of a size, in so many folders."""

    count: int
    folders: int
    size_bytes: int

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return self.count * self.size_bytes

    def write(self, folder: Path) -> None:
        """Makes them all below a folder."""
        in_each = -(-self.count // self.folders)
        for number in range(self.count):
            at = folder / f"{number // in_each:04d}"
            if number % in_each == 0:
                at.mkdir(parents=True)
            content = body_of(b"%d" % number, self.size_bytes)
            (at / f"{number % in_each:06d}.bin").write_bytes(content)


@dataclass(frozen=True, slots=True)
class Objects:
    """So many objects of a size, in a bucket of their own."""

    bucket: str
    count: int
    size_bytes: int

    @property
    def keys(self) -> list[bytes]:
        """What they are called."""
        return keys(SHAPE, self.count)

    def load(self, endpoint: Endpoint) -> None:
        """Makes the bucket and all of them, on MinIO."""
        asyncio.run(self._put(endpoint, self.keys, "", is_new=True))

    def change(self, endpoint: Endpoint, changed: Sequence[bytes], salt: str) -> None:
        """Gives some of them other bytes."""
        asyncio.run(self._put(endpoint, changed, salt))

    async def _put(
        self, endpoint: Endpoint, wanted: Sequence[bytes], salt: str, *, is_new: bool = False
    ) -> None:
        from aiobotocore.session import get_session

        async with get_session().create_client(
            "s3",
            endpoint_url=endpoint.url,
            aws_access_key_id=endpoint.access_key,
            aws_secret_access_key=endpoint.secret_key,
            region_name=endpoint.region,
        ) as client:
            if is_new:
                await client.create_bucket(Bucket=self.bucket)
            await fill(
                client,
                self.bucket,
                wanted,
                salt=salt,
                unpacks=self.size_bytes < UNPACKED_BYTES_MAX,
                body=lambda key, salt: body_of(key, self.size_bytes, salt),
            )


def body_of(name: bytes, size_bytes: int, salt: str = "") -> bytes:
    """The bytes of one file or object."""
    chance = random.Random(name + salt.encode())  # noqa: S311 - the same in each run
    pieces = range(0, size_bytes, PIECE_BYTES_MAX)
    return b"".join(chance.randbytes(min(PIECE_BYTES_MAX, size_bytes - at)) for at in pieces)


@contextmanager
def quick_folder(size_bytes: int, files: int) -> Iterator[Path]:
    """An empty folder, gone afterwards, with room for so much."""
    needed_bytes = SPARE * (size_bytes + files * FILE_BYTES_LEAST)
    base = MEMORY if _has_room(MEMORY, needed_bytes, SPARE * files) else None
    with tempfile.TemporaryDirectory(prefix="bucket-indexer-bench-", dir=base) as name:
        yield Path(name)


def kind_of(folder: Path) -> str:
    """Whether a folder is in memory or on a disk."""
    return "in memory" if MEMORY in folder.parents else "on a disk"


def _has_room(place: Path, needed_bytes: int, files: int) -> bool:
    if not os.access(place, os.W_OK):
        return False
    free_files = os.statvfs(place).f_favail
    return shutil.disk_usage(place).free > needed_bytes and free_files > files
