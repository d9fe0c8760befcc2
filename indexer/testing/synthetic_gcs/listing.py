"""objects.list: from a bucket and the parameters of a request to a page of JSON.

Invariants
  * A page is found by bisection and takes as much work as it has entries, not as the bucket has.
  * A page token holds where its page ended, and is good for the parameters that it was given for
    alone; for others it is refused.
  * What `fields` does not ask for is not told, not even the token.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from indexer.testing.synthetic_gcs.faults import Faults, Injector
from indexer.testing.synthetic_gcs.state import Bucket, Generation

PAGE_ENTRIES_MAX = 5000
PAGE_ENTRIES_DEFAULT = 1000

_BOUND = ("prefix", "startOffset", "endOffset", "versions")
"""The parameters that a token is for."""

_ITEM_FIELDS = re.compile(r"items\(([^)]*)\)")

Entry = tuple[bytes, Generation]


class InvalidParameter(Exception):
    """A parameter has no meaning: the request is answered with a 400."""


class Denied(Exception):
    """The page would show what may not be seen."""


class _Token(msgspec.Struct, frozen=True):
    key: bytes
    generation: int
    number: int
    bound: bytes


@dataclass(frozen=True, slots=True)
class _Query:
    prefix: bytes
    start: bytes
    end: bytes
    versions: bool
    entries_max: int
    fields: frozenset[str] | None
    item_fields: frozenset[str] | None
    token: _Token | None
    bound: bytes


def list_objects(bucket: Bucket, parameters: Mapping[str, str], injector: Injector) -> bytes:
    """The body of the answer. Raises `InvalidParameter` or `Denied`."""
    query, faults = _read(parameters), injector.touching("list")
    limit = injector.page_entries(faults, query.entries_max)
    found: list[Entry] = []
    more = False
    for entry in _entries(bucket, query, faults):
        if len(found) == limit:
            more = True
            break
        found.append(entry)
    if faults.deny_prefix and any(key.startswith(faults.deny_prefix.encode()) for key, _ in found):
        raise Denied
    page: dict[str, Any] = {"kind": "storage#objects"}
    if found:
        page["items"] = _items(bucket, found, query.item_fields)
    if more:
        page["nextPageToken"] = _next_token(query, found, faults)
    if query.fields is not None:
        page = {name: value for name, value in page.items() if name in query.fields}
    return msgspec.json.encode(page)


def _read(parameters: Mapping[str, str]) -> _Query:
    asked = parameters.get("maxResults", str(PAGE_ENTRIES_DEFAULT))
    if not asked.isdecimal():
        raise InvalidParameter("maxResults")
    bound = sha256(repr([parameters.get(name) for name in _BOUND]).encode()).digest()[:8]
    token = None
    if text := parameters.get("pageToken"):
        try:
            token = msgspec.msgpack.decode(urlsafe_b64decode(text), type=_Token)
        except ValueError as error:
            raise InvalidParameter("pageToken") from error
        if token.bound != bound:
            raise InvalidParameter("pageToken")
    fields = parameters.get("fields", "")
    of_items = _ITEM_FIELDS.search(fields)
    return _Query(
        prefix=parameters.get("prefix", "").encode(),
        start=parameters.get("startOffset", "").encode(),
        end=parameters.get("endOffset", "").encode(),
        versions=parameters.get("versions") == "true",
        entries_max=min(int(asked) or PAGE_ENTRIES_DEFAULT, PAGE_ENTRIES_MAX),
        fields=frozenset(_ITEM_FIELDS.sub("items", fields).split(",")) if fields else None,
        item_fields=frozenset(of_items[1].split(",")) if of_items else None,
        token=token,
        bound=bound,
    )


def _entries(bucket: Bucket, query: _Query, faults: Faults) -> Iterator[Entry]:
    """What there is from where the page begins."""
    start, token = query.prefix, query.token
    if not faults.ignore_start_offset:
        start = max(start, query.start)
    if token is not None:
        start = max(start, token.key)
    keys = bucket.keys
    for place in range(bisect_left(keys, start), len(keys)):
        key = keys[place]
        if not key.startswith(query.prefix) or (query.end and key >= query.end):
            return
        for generation in bucket.generations(key):
            is_told = (
                token is not None
                and key == token.key
                and (
                    generation.number < token.generation
                    or (generation.number == token.generation and not faults.repeat_seam)
                )
            )
            if not is_told and (query.versions or generation.deleted_ms is None):
                yield key, generation


def _next_token(query: _Query, found: list[Entry], faults: Faults) -> str:
    number = query.token.number + 1 if query.token is not None else 1
    key, generation = b"", 0
    if found and not faults.same_token:
        key, generation = found[-1][0], found[-1][1].number
    elif query.token is not None:
        key, generation = query.token.key, query.token.generation
    if faults.same_token:
        number = 0
    token = _Token(key, generation, number, query.bound)
    return urlsafe_b64encode(msgspec.msgpack.encode(token)).decode()


def _items(bucket: Bucket, found: list[Entry], wanted: frozenset[str] | None) -> list[msgspec.Raw]:
    """The entries as JSON, which is made once for each and kept."""
    items = []
    for key, generation in found:
        place = (key, generation.created_ms, generation.deleted_ms, wanted)
        item = bucket.rendered.get(place)
        if item is None:
            document = generation.document(bucket.name, key)
            if wanted is not None:
                document = {name: value for name, value in document.items() if name in wanted}
            item = bucket.rendered[place] = msgspec.Raw(msgspec.json.encode(document))
        items.append(item)
    return items
