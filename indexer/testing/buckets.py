"""Seeded buckets: fills a bucket of a real or synthetic S3 server with objects of given keys.

Invariants
  * An object's bytes are a function of its key and `salt` alone, so its ETag is known beforehand:
    `body_of`, unless another one is given.
  * On MinIO, objects go up as tar archives that the server unpacks (some 2,500 objects a second on
    two cores, where single PUTs reach a few hundred); elsewhere one by one.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from workers.pool import Pool

ARCHIVE_OBJECTS: Final = 2_000
PUTS_IN_FLIGHT: Final = 16

Body: TypeAlias = Callable[[bytes, str], bytes]
"""From a key and a salt to the bytes of an object."""


def body_of(key: bytes, salt: str = "") -> bytes:
    """The bytes of the object of this key: 8 to 39 of them."""
    digest = hashlib.md5(key + salt.encode(), usedforsecurity=False).hexdigest().encode()
    return digest[: 1 + digest[0] % 32] + b"-object"


def etag_of(key: bytes, salt: str = "") -> str:
    """The ETag that a server gives to `body_of` when it is put in one piece, without quotes."""
    return hashlib.md5(body_of(key, salt), usedforsecurity=False).hexdigest()


async def fill(
    client: Any,
    bucket: str,
    keys: Sequence[bytes],
    *,
    salt: str = "",
    unpacks: bool = False,
    body: Body = body_of,
) -> None:
    """Puts an object for every key; `unpacks` says that the server unpacks archives (MinIO)."""

    def content_of(key: bytes) -> bytes:
        return body(key, salt)

    if unpacks:
        async with Pool(2) as pool:
            for number, part in enumerate(_parts(keys)):
                await pool.submit(_put_archive, client, bucket, number, part, content_of)
        return
    async with Pool(PUTS_IN_FLIGHT) as pool:
        for key in keys:
            await pool.submit(_put, client, bucket, key, content_of(key))


def _parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), ARCHIVE_OBJECTS):
        yield keys[start : start + ARCHIVE_OBJECTS]


async def _put(client: Any, bucket: str, key: bytes, content: bytes) -> None:
    await client.put_object(Bucket=bucket, Key=key.decode(), Body=content)


async def _put_archive(
    client: Any,
    bucket: str,
    number: int,
    keys: Sequence[bytes],
    content_of: Callable[[bytes], bytes],
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for key in keys:
            content = content_of(key)
            member = tarfile.TarInfo(key.decode())
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    await client.put_object(
        Bucket=bucket,
        Key=f"archive-{number}.tar",
        Body=archive.getvalue(),
        Metadata={"snowball-auto-extract": "true"},
    )
