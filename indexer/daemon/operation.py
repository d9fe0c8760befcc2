"""Operation: one thing that can be asked of the daemon, with all that is known of it.

Invariants
  * A handler gets what was asked for as values that were checked: a query and a body of the types
    that its operation names, and path parameters as text.
  * A handler raises what `indexer.errors` and `problems` draw, and has then changed nothing.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta
from multidict import CIMultiDictProxy

from indexer.artifact.query.queries import Queries
from indexer.content import ContentStore
from indexer.daemon.health import Health
from indexer.daemon.metrics import Metrics
from indexer.errors import InvalidSetting
from indexer.limits import (
    CURSOR_CHARACTERS_MAX,
    PAGE_RESULTS_DEFAULT,
    PAGE_RESULTS_MAX,
    REQUEST_BODY_BYTES_MAX,
    REQUEST_ID_CHARACTERS_MAX,
)
from indexer.pipeline.trigger import SnapshotRequest
from indexer.protocols import SourceOptions, Tracker
from indexer.references import ArtifactName, VersionRef, parse_name, parse_reference
from indexer.remote import API, JSON_TYPE
from indexer.service import Service
from indexer.texts import path_text
from indexer.wire.base import VersionName, read_cursor
from indexer.wire.jobs import SnapshotOrder
from indexer.workspace import Workspace
from workers.clock import Clock
from workers.threads import Threads

ShortText = Annotated[str, Meta(max_length=CURSOR_CHARACTERS_MAX)]
"""A cursor, a prefix or a reference in a query."""

ReadOrder = Callable[[SnapshotOrder], tuple[SnapshotRequest, SourceOptions]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What operations work with."""

    workspace: Workspace
    read_order: ReadOrder
    tracker: Tracker
    content: ContentStore
    queries: Queries
    service: Service
    health: Health
    metrics: Metrics
    threads: Threads
    clock: Clock
    log: Any


@dataclass(frozen=True, slots=True)
class Call:
    """One request to an operation, read and checked."""

    path: Mapping[str, str]
    query: Any
    body: Any
    headers: CIMultiDictProxy[str]
    request: web.BaseRequest
    request_id: str

    @property
    def name(self) -> ArtifactName:
        """The artifact of the path. Raises `InvalidReference`."""
        return parse_name(f"{self.path['project']}/{self.path['artifact']}")

    @property
    def ref(self) -> VersionRef:
        """The version of the path. Raises `InvalidReference`."""
        selector = self.path["ref"]
        mark = "@" if selector.startswith("sha256:") else ":"
        return parse_reference(f"{self.name}{mark}{selector}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers with: a document, bytes, or nothing.

    `tag` is the strong ETag of what it is the state of; without one, a document's own bytes give
    one. What is `immutable` may be kept by whoever gets it.
    """

    body: msgspec.Struct | bytes | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON_TYPE
    tag: str | None = None
    immutable: bool = False


Handler: TypeAlias = Callable[[Parts, Call], Awaitable[Answer | web.StreamResponse]]


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameter."""


class PageQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page of a list: `after` is the `next` of the page before."""

    after: ShortText | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_RESULTS_MAX)] = PAGE_RESULTS_DEFAULT


@dataclass(frozen=True, slots=True)
class Header:
    """A request header that an operation reads: its name, what it is for, what it looks like."""

    name: str
    said: str
    schema: Mapping[str, Any]


IDEMPOTENCY_KEY: Final = Header(
    "Idempotency-Key",
    "The same request with the same key within a day is done once.",
    {"type": "string", "pattern": f"^[!-~]{{1,{REQUEST_ID_CHARACTERS_MAX}}}$"},
)
LAST_EVENT_ID: Final = Header(
    "Last-Event-ID",
    "The number of the last event that was seen.",
    {"type": "string", "pattern": "^[0-9]{1,18}$"},
)
IF_MATCH: Final = Header(
    "If-Match",
    "Only in this state still: the ETag that was given with it.",
    {"type": "string", "pattern": '^"[!#-~]{1,128}"$'},
)
ALIAS_IF_MATCH: Final = Header(
    "If-Match",
    "Only while it means this version, in quotes.",
    {"type": "string", "pattern": '^"v(0|[1-9][0-9]{0,8})"$'},
)
ALIAS_IF_NONE_MATCH: Final = Header(
    "If-None-Match", "`*`: only if it is not there yet.", {"type": "string", "enum": ["*"]}
)


@dataclass(frozen=True)
class Operation:
    """A method on a path, what it takes, what it gives, and who does it.

    `answers` are the documents by status, None for an answer without a body and a media type in
    place of a document for bytes of it. `problems` are the other statuses that it may end in, with
    those that any may: see `ALWAYS`. `headers` are the request headers that it reads.
    """

    method: str
    path: str
    summary: str
    handle: Handler
    answers: Mapping[int, type[msgspec.Struct] | str | None]
    query: type[msgspec.Struct] = NoQuery
    body: type[msgspec.Struct] | str | None = None
    body_bytes_max: int = REQUEST_BODY_BYTES_MAX
    problems: tuple[int, ...] = ()
    headers: tuple[Header, ...] = ()
    is_stream: bool = False

    @property
    def id(self) -> str:
        """Its name in the OpenAPI document: the handler's."""
        return self.handle.__name__

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What a request's path looks like that asks for it."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path))

    @property
    def parameters(self) -> list[str]:
        """The names of its path's parameters."""
        return re.findall(r"\{(\w+)\}", self.path)


ARTIFACT: Final = f"{API}/artifacts/{{project}}/{{artifact}}"
"""The path of an artifact, below which its versions and aliases are."""

VERSION: Final = f"{ARTIFACT}/versions/{{ref}}"
"""The path of a version, below which is what may be asked of it."""

ALWAYS: Final = (400, 404, 405, 408, 413, 421, 429, 500, 503, 507)
"""Statuses that a problem of any operation may have."""

VERSION_TAG: Final = re.compile(r'"(v(?:0|[1-9][0-9]{0,8}))"')


def version_number(name: VersionName) -> int:
    """The number in a version's name."""
    return int(name.removeprefix("v"))


def text_of_cursor(cursor: str | None) -> str | None:
    """The text that a cursor comes after. Raises `InvalidSetting`."""
    path = read_cursor(cursor)
    return None if path is None else path_text(path)


def number_of_cursor(cursor: str | None) -> int | None:
    """The number that a cursor comes after. Raises `InvalidSetting`."""
    text = text_of_cursor(cursor)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InvalidSetting(
            f"{cursor!r} is no cursor of this list: give the 'next' of one of its pages."
        )
    return int(text)
