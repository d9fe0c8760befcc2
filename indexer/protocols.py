"""Every seam of the indexer: what a store, a content store's backing, and a tracker must do.

Invariants
  * The pipeline knows stores and trackers through these protocols alone; what one of them can or
    cannot do is data (`StoreProperties`), never a question about its class.
  * Keys that cross these seams are relative to the source's root.
  * Every method may be called again after it failed or was cancelled, with the same outcome as if
    it had been called once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Protocol

import pyarrow as pa

from indexer.errors import Ability, IndexerError
from indexer.keyspace import Key, KeyRange
from indexer.limits import IN_FLIGHT_DEFAULT
from indexer.manifest import Manifest
from indexer.objects import Head, Pin
from indexer.page import Page
from indexer.records import (
    CommitResult,
    RunRecord,
    RunRequest,
    RunState,
    ScanRecord,
    VersionRecord,
)
from indexer.references import ArtifactName
from indexer.sources import SourceUri
from indexer.telemetry import Counters

# ---------------------------------------------------------------------------- stores


@dataclass(frozen=True, slots=True)
class StoreProperties:
    """What a store can do, as the pipeline must know it.

    `parallel` is false for a server that cannot begin a listing in the middle. `resume` says what
    beginning there costs: nothing much (`range`), or reading the whole directory each time
    (`directory`, MinIO), so that a large directory is better listed with the server's own cursor.
    `versions` says whether rows carry version ids. A server's word that a page is the last one is
    believed when the page has fewer than `end_believed_below` entries; None believes it always.

    `needs_head` is true for a store that lists names alone: its rows have no size and no identity
    until each was asked for. `ranges` says whether a part of an object can be read; `digests`
    whether the store is `Digesting`, `copies` whether it is `Copying`, `links` whether it is
    `Linking`.
    """

    key_bytes_max: int
    parallel: bool = True
    resume: Literal["range", "directory"] = "range"
    versions: bool = False
    end_believed_below: int | None = None
    needs_head: bool = False
    ranges: bool = True
    digests: bool = False
    copies: bool = False
    links: bool = False


@dataclass(frozen=True, slots=True)
class ListedPage:
    """One listing response of a store.

    `rows` are the live objects, ascending; `entries` counts all that the response lists. `first`
    and `last` are the first and last key among those (a delete marker has a key and no row), None
    when there are none. `more` is the server's word that the listing goes on; `token` continues it
    there with the server's own cursor, where it keeps one.
    """

    rows: Page
    entries: int
    first: Key | None
    last: Key | None
    more: bool
    token: str | None = None

    @classmethod
    def of_keys(
        cls, rows: Page, keys: Sequence[bytes], *, more: bool, token: str | None = None
    ) -> ListedPage:
        """A page on which all of `keys` are listed, ascending, and of some of them `rows`."""
        return cls(
            rows=rows,
            entries=len(keys),
            first=Key(keys[0]) if keys else None,
            last=Key(keys[-1]) if keys else None,
            more=more,
            token=token,
        )


class Sink(Protocol):
    """Where the bytes of an object go, in order.

    `write` may wait; its bytes are the sink's for good. `restart` says that they come again from
    the first one, as the store could not go on in the middle.
    """

    async def write(self, data: bytes) -> None: ...

    def restart(self) -> None: ...


class Store(Protocol):
    """A source that was opened: its objects in key order.

    `list_page` gives objects of `keys`, from its start: as many as the server cares to send, none
    at all being possible while `more` is true. Keys after `keys.through` may be among them. With
    `token` it goes on where the response that gave the token ended, for the same `keys` and
    `prefix` as then. `prefix` narrows the listing to one directory, and keys must lie within it.
    The rows are not checked for order; that is the caller's part.

    `head` tells of one object: of the version `version_id`, or else of what is there now. With
    `checksum` also what the store knows of its bytes where that has to be asked for, of which the
    strongest one is told.

    `read` writes bytes `start` up to (not with) `end`, or the last one, of an object into `sink`,
    as they come. They are of the version of `pin` or, where that names none or `null`, of an object
    that still has its ETag, modification time and size; else it raises `ObjectChanged`, at the
    latest after the last byte. A body that ends early raises `StoreUnavailable`. A store without
    `ranges` is read whole.

    Raises `BrokenListing`, `AccessDenied`, `NoSuchSource`, `NoSuchObject`, and `StoreUnavailable`
    for what may be tried again. Many calls may be under way at once.
    """

    @property
    def properties(self) -> StoreProperties: ...

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage: ...

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head: ...

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None: ...


class Digesting(Protocol):
    """The ability of a store to digest objects where they are, without handing on their bytes.

    `digests` gives the digest of each object, in the order given, or the error that it ran into:
    `NoSuchObject`, `ObjectChanged` or `AccessDenied`, or `StoreUnavailable` for one that may be
    tried again.
    """

    async def digests(
        self, objects: Sequence[tuple[Key, Pin]], algorithm: str
    ) -> list[bytes | IndexerError]: ...


class Copying(Protocol):
    """The ability of a store to copy an object into an open file, without handing on its bytes.

    `copy` fills the file from its start, as `Store.read` fills a sink from its first byte, and may
    be called again. It raises what `read` does, and `OSError` where the file cannot be written.
    """

    async def copy(self, key: Key, pin: Pin, descriptor: int) -> None: ...


LinkAccess = Literal["anybody", "signed", "credentials"]
"""Who can fetch a link: `anybody` who reaches it; with the rights of whoever `signed` it, until it
expires; or whoever sends `credentials` of their own."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where an object's bytes are fetched from by a plain GET.

    `is_pinned` if no other bytes than the recorded ones can come from there.
    """

    url: str
    is_pinned: bool = False
    access: LinkAccess = "anybody"


class Linking(Protocol):
    """The ability of a store to give links to objects that are not their URIs.

    `link` is of the version of `pin`, or of what is there when it is fetched where that names none.
    Where it has to be signed it holds for `expires_s`, or for as long as the credentials do.
    """

    async def link(self, key: Key, pin: Pin, *, expires_s: int) -> Link: ...


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source whose server was asked what it must be asked before listing.

    `folder` is the source's canonical URI where it is a folder. `record` is what is kept of the
    connection (endpoint, region, operation; no secret), `warnings` what the user must know of it,
    `abilities` what the server was found to do, in words. `opened_at` is the time by the server's
    own clock when it answered, where it tells. `notices` is called when the source was listed and
    filled, for sentences that whoever uses the version should read: what was left out, by what the
    objects are told apart.
    """

    folder: str
    store: Store
    record: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    abilities: Mapping[str, str] = field(default_factory=dict)
    opened_at: datetime | None = None
    notices: Callable[[], tuple[str, ...]] = tuple


@dataclass(frozen=True, slots=True)
class LoneObject:
    """An object that is a source by itself: a page of one row, and the store of it.

    The row's path is the last component of the object's key. The store is asked for nothing but
    `head` and `read` of that path. `notices` are as those of an `OpenedSource`.
    """

    row: Page
    store: Store
    notices: Callable[[], tuple[str, ...]] = tuple


class Connection(Protocol):
    """A server that sources are opened on.

    `open` asks for what holds at this moment (whether versions are kept) and for what was never
    asked of this endpoint before; it lists nothing of the source. `without` names abilities that
    the job must do without. With `as_of`, the store shows its objects as they were at that moment;
    where it keeps no versions that raises `InvalidSetting`.

    `lone_object` is the object of exactly the URI's key; None where there is none. `objects` gives
    a store for `head` and `read` alone, and asks the server nothing: of a folder's URI its keys are
    those below it, of another one the last component of the one object that it names.
    `credentials` says where those in use come from, not what they are.
    """

    async def open(
        self,
        uri: SourceUri,
        *,
        without: Collection[Ability] = (),
        as_of: datetime | None = None,
    ) -> OpenedSource: ...

    async def lone_object(
        self, uri: SourceUri, *, as_of: datetime | None = None
    ) -> LoneObject | None: ...

    async def objects(self, uri: SourceUri) -> Store: ...

    async def credentials(self) -> str: ...


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach S3; what is None is found by the AWS rules."""

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    no_sign_request: bool = False
    request_payer: str | None = None


@dataclass(frozen=True, slots=True)
class GCSOptions:
    """How to reach GCS; credentials are found by Google's rules unless it is asked anonymously.

    `user_project` is billed for requests to buckets whose requester pays.
    """

    anonymous: bool = False
    user_project: str | None = None


Symlinks = Literal["skip", "inside", "follow"]


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What becomes of symbolic links below a folder.

    `skip` leaves them out, `inside` takes them for what they point to if that lies in the source,
    `follow` wherever that lies.
    """

    symlinks: Symlinks = "inside"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are reached: one set of options a kind of store, and caps for requests.

    `in_flight` is the most requests under way at once, `requests_per_s` the most in a second.
    """

    s3: S3Options = field(default_factory=S3Options)
    gcs: GCSOptions = field(default_factory=GCSOptions)
    file: FileOptions = field(default_factory=FileOptions)
    in_flight: int = IN_FLIGHT_DEFAULT
    requests_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """A source's server. `slots` tells how many list requests to it may be under way just now,
    `in_flight` how many requests there may ever be.
    """

    connection: Connection
    slots: Callable[[], int]
    in_flight: int = IN_FLIGHT_DEFAULT


Reach = Callable[[SourceUri], AbstractAsyncContextManager[Reached]]
"""How a source's server is reached."""


class Servers(Protocol):
    """The servers that sources are on.

    `reach` gives what reaches them with these options; `counters` count the requests. Sources of
    which one of `records` tells how they were reached when they were scanned are reached in the
    same way, where the options leave it open. `options` are those that hold where nobody says
    otherwise.
    """

    @property
    def options(self) -> SourceOptions: ...

    def reach(
        self,
        options: SourceOptions,
        counters: Counters,
        records: Sequence[Mapping[str, Any]] = (),
    ) -> Reach: ...


class EndpointFacts(Protocol):
    """What endpoints were found to honour, kept between runs."""

    async def get_facts(self, endpoint: str) -> dict[str, Any] | None: ...

    async def put_facts(self, endpoint: str, facts: dict[str, Any]) -> None: ...


# --------------------------------------------------------------------------- content


class BlobStore(Protocol):
    """Named bytes that are written once.

    `put` is atomic: a name is there whole or not at all, also after a crash; putting a name that is
    there is a no-op. `get` raises `FileNotFoundError` for a name that is not there. Names are
    lower-case letters, digits, `.`, `-` and at most one `/`.
    """

    async def put(self, name: str, data: bytes) -> None: ...

    async def get(self, name: str) -> bytes: ...

    async def has(self, name: str) -> bool: ...

    async def delete(self, name: str) -> None:
        """Removes a name; one that is not there is no error."""
        ...


# -------------------------------------------------------------------------- tracking

ANYWHERE: Final = -1
"""As what an alias is expected to mean: whatever it means now, or nothing."""


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """All that one commit does, at once or not at all.

    `request_id` is chosen by the caller, once for all tries of the same commit. `expect` is the
    digest of the version that the caller took for the newest one it would follow (`latest`, or the
    newest partial one for a partial scan), None when it saw none. A version that is made expires
    `ttl` after that; one that is confirmed, if it expires at all, not before.

    It belongs to the run `run`, or to one that is made for it and has finished. What is None of
    `notes`, `description` and `metadata` stays as it is on a version that is confirmed; `tags` are
    added to those it has.
    """

    request_id: str
    name: ArtifactName
    type: str | None
    manifest: Manifest
    scan: ScanRecord
    aliases: Sequence[str] = ()
    notes: str | None = None
    expect: str | None = None
    ttl: timedelta | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    tags: Sequence[str] = ()
    run: str | None = None


class Tracker(Protocol):
    """Where sealed shards are told while listing goes on, and versions are committed.

    A shard may be put long before, and by another process than, the commit that names it. A commit
    whose shards are not all there raises `CorruptContent`. Nothing is visible before a commit;
    after it nothing of it changes but aliases and notes.
    """

    async def parent(self, name: ArtifactName, *, partial: bool = False) -> VersionRecord | None:
        """The version that a commit would follow: `latest`, or the newest partial one.

        What it needs is kept for the job that asks, also if the version is deleted meanwhile.
        """
        ...

    async def manifest(self, digest: str) -> Manifest:
        """The manifest of a version, by digest. Raises `NoSuchVersion`."""
        ...

    async def missing(self, digests: Sequence[str]) -> set[str]:
        """Those of the shards that the tracker does not hold yet.

        The others it keeps for the job that asks, whether or not a version names them.
        """
        ...

    async def put_shard(self, digest: str, data: bytes) -> None:
        """Gives the tracker a shard as Parquet bytes.

        Raises `CorruptContent` if its rows do not ascend strictly or do not have the digest.
        """
        ...

    async def shard(self, digest: str) -> pa.Table:
        """The rows of a shard that was put. Raises `CorruptContent` when it is gone or damaged."""
        ...

    async def commit(self, request: CommitRequest) -> CommitResult:
        """Makes the version, or confirms the one that is there when nothing changed.

        Repeating a request gives the first one's result, also after its run has ended. Raises
        `CommitConflict` when `expect` is not the newest version any more, `CommitUnknown` when the
        answer was lost, `NoSuchRun` and `RunEnded` for its run.
        """
        ...

    async def outcome(self, request_id: str) -> CommitResult | None:
        """What came of a commit whose answer was lost; None when it did not happen."""
        ...

    async def start_run(self, request: RunRequest) -> RunRecord:
        """Starts a run that commits can be made in, or goes on with the one of that id.

        Raises `InvalidSetting` for the id of a run of another project.
        """
        ...

    async def run(self, run_id: str) -> RunRecord:
        """A run by its id. Raises `NoSuchRun`."""
        ...

    async def finish_run(self, run_id: str, state: RunState = RunState.FINISHED) -> RunRecord:
        """Ends a run, which then takes nothing more; one that ended like that stays as it is.

        Raises `NoSuchRun`, and `RunEnded` for a run that ended otherwise.
        """
        ...
