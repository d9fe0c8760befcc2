"""Servers that send more than they should, or more slowly: each ends in one error, soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from indexer.errors import BrokenListing, StoreUnavailable
from indexer.keyspace import KeyRange
from indexer.limits import S3_PAGE_BYTES_MAX
from indexer.protocols import S3Options
from indexer.sources import parse_source
from indexer.stores import s3_bodies
from indexer.stores.memory import MemoryFacts
from indexer.stores.s3 import connect
from indexer.telemetry import Counters

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nServer: AmazonS3\r\nContent-Type: application/xml\r\n"
VERSIONING = b"<VersioningConfiguration></VersioningConfiguration>"
EMPTY = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
TIMEOUT_S = 0.3


class Sent:
    """What a server has sent of bodies without an end."""

    def __init__(self) -> None:
        self.size_bytes = 0

    async def endlessly(self, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = b"<Contents><Key>a</Key></Contents>" * 2000
        while not writer.is_closing():
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            self.size_bytes += len(piece)


async def whole(writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


async def drip(writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
    writer.write(head)
    for byte in body:
        writer.write(bytes([byte]))
        await asyncio.sleep(TIMEOUT_S / 10)


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """The endpoint of a server that answers so; requests are told by their first line."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await answer(head.split(b"\r\n")[0].decode(), writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


async def list_first_page(endpoint_url: str) -> int:
    options = S3Options(endpoint_url=endpoint_url, no_sign_request=True)
    async with connect(options, MemoryFacts(), Counters()) as connection:
        source = await connection.open(parse_source("s3://bucket/"))
        return (await source.store.list_page(KeyRange())).entries


@pytest.mark.parametrize("operation", ["versioning", "list-type"])
async def test_an_answer_without_an_end_is_not_read_to_it(operation: str) -> None:
    sent = Sent()

    async def answer(line: str, writer: asyncio.StreamWriter) -> None:
        if operation in line:
            await sent.endlessly(writer)
        else:
            await whole(writer, VERSIONING)

    async with serving(answer) as endpoint_url:
        with pytest.raises(BrokenListing, match=r"^s3://bucket.*: .* longer than 16,777,216 bytes"):
            await list_first_page(endpoint_url)
    # What lies in the buffers between comes on top.
    assert S3_PAGE_BYTES_MAX <= sent.size_bytes < 2 * S3_PAGE_BYTES_MAX


@pytest.mark.parametrize("part", ["head", "body"])
async def test_what_drips_is_given_up(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_bodies, "RESPONSE_TIMEOUT_S", TIMEOUT_S)

    async def answer(line: str, writer: asyncio.StreamWriter) -> None:
        if "list-type" not in line:
            await whole(writer, VERSIONING)
        elif part == "head":
            await drip(writer, b"", HEAD)
        else:
            await drip(writer, HEAD + b"Content-Length: 100\r\n\r\n", b"x" * 100)

    async with serving(answer) as endpoint_url:
        started_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"^s3://bucket.*[Tt]ime"):
            await list_first_page(endpoint_url)
        assert TIMEOUT_S <= time.monotonic() - started_s < 20 * TIMEOUT_S


async def test_a_body_that_ends_early_may_be_asked_for_again() -> None:
    async def answer(line: str, writer: asyncio.StreamWriter) -> None:
        if "list-type" in line:
            writer.write(HEAD + b"Content-Length: 100\r\n\r\n" + EMPTY)
            writer.close()
        else:
            await whole(writer, VERSIONING)

    async with serving(answer) as endpoint_url:
        with pytest.raises(StoreUnavailable, match=r"^s3://bucket") as caught:
            await list_first_page(endpoint_url)
    assert caught.value.is_retryable


async def test_an_answer_that_is_whole_is_read() -> None:
    async def answer(line: str, writer: asyncio.StreamWriter) -> None:
        await whole(writer, EMPTY if "list-type" in line else VERSIONING)

    async with serving(answer) as endpoint_url:
        assert await list_first_page(endpoint_url) == 0


BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<ListBucketResult><IsTruncated>false</IsTruncated><Name>&b;</Name></ListBucketResult>"""


async def test_a_bomb_is_refused() -> None:
    async def answer(line: str, writer: asyncio.StreamWriter) -> None:
        await whole(writer, BOMB if "list-type" in line else VERSIONING)

    async with serving(answer) as endpoint_url:
        with pytest.raises(BrokenListing, match=r"^s3://bucket/: .*declares entities"):
            await list_first_page(endpoint_url)


async def test_a_bomb_in_another_answer_is_an_error() -> None:
    async def answer(_line: str, writer: asyncio.StreamWriter) -> None:
        await whole(writer, BOMB.replace(b"ListBucketResult", b"VersioningConfiguration"))

    async with serving(answer) as endpoint_url:
        with pytest.raises(BrokenListing, match=r"^s3://bucket: .*declares entities"):
            await list_first_page(endpoint_url)
