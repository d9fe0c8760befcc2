"""What every store is wrapped in: a limit to its requests, and trying again.

    RetryingStore(LimitedStore(store)), as a ResilientConnection opens it

Invariants
  * A wrapper is a store itself and changes no answer.
  * A request that waits to be tried again holds no slot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import TypeVar, cast

from indexer.errors import Ability, IndexerError, StoreUnavailable
from indexer.keyspace import Key, KeyRange
from indexer.limits import LIMITERS_KEPT_MAX
from indexer.objects import Head, Pin
from indexer.protocols import (
    Connection,
    Copying,
    Digesting,
    Link,
    Linking,
    ListedPage,
    LoneObject,
    OpenedSource,
    Sink,
    Store,
    StoreProperties,
)
from indexer.sources import SourceUri
from indexer.telemetry import Counters
from workers.caps import Caps
from workers.clock import Clock
from workers.control import Limits
from workers.limiter import Limiter, Slot
from workers.retry import Retry

Result = TypeVar("Result")

OnRetry = Callable[[int, Exception, float], None]


@dataclass(frozen=True, slots=True)
class Limiters:
    """How many requests of each kind may be under way at once, to one bucket."""

    listing: Limiter
    heads: Limiter
    reads: Limiter


class LimiterPool:
    """The limiters of all buckets, shared by all who reach the same one at the same endpoint.

    What was found out of a server's load is kept for the next job.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._kept: dict[str, Limiters] = {}
        self._sharers: Counter[str] = Counter()

    @contextmanager
    def lease(self, bucket: str) -> Iterator[tuple[Limiters, Callable[[], int]]]:
        """The limiters of a bucket, and how many list requests one of its sharers may count on."""
        limiters = self._kept.pop(bucket, None) or Limiters(
            *(Limiter(self._limits, clock=self._clock) for _ in range(3))
        )
        self._kept[bucket] = limiters
        self._sharers[bucket] += 1
        try:
            yield limiters, lambda: max(1, limiters.listing.limit // self._sharers[bucket])
        finally:
            self._sharers[bucket] -= 1
            self._forget()

    def _forget(self) -> None:
        idle = [bucket for bucket in self._kept if not self._sharers[bucket]]
        for bucket in idle[: max(0, len(self._kept) - LIMITERS_KEPT_MAX)]:
            del self._kept[bucket], self._sharers[bucket]


class LimitedStore:
    """A store of which only so many requests are under way at once, and are counted.

    Who asks has a slot of his own caps first: waiting for the bucket he holds up nobody else's.
    """

    def __init__(
        self,
        store: Store,
        backend: str,
        *,
        limiters: Limiters,
        caps: Caps,
        counters: Counters,
        clock: Clock,
    ) -> None:
        self._store = store
        self._backend = backend
        self._limiters = limiters
        self._caps = caps
        self._counters = counters
        self._clock = clock

    @property
    def properties(self) -> StoreProperties:
        """See `protocols.Store`."""
        return self._store.properties

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        """See `protocols.Store`."""
        async with self._slot("list", self._limiters.listing) as slot:
            page = await self._store.list_page(keys, prefix=prefix, token=token)
            if page.rows.num_rows < page.entries or not page.more:
                # A short page, or one of delete markers, says nothing of how busy the server is.
                slot.untypical()
            return page

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        """See `protocols.Store`."""
        async with self._slot("head", self._limiters.heads):
            return await self._store.head(key, version_id=version_id, checksum=checksum)

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """See `protocols.Store`."""
        async with self._slot("read", self._limiters.reads) as slot:
            # How long a body takes tells of its size and of who takes it.
            slot.untypical()
            await self._store.read(key, pin, sink, start=start, end=end)

    async def digests(
        self, objects: Sequence[tuple[Key, Pin]], algorithm: str
    ) -> list[bytes | IndexerError]:
        """See `protocols.Digesting`; threads bound it, not slots."""
        return await cast("Digesting", self._store).digests(objects, algorithm)

    async def copy(self, key: Key, pin: Pin, descriptor: int) -> None:
        """See `protocols.Copying`."""
        async with self._slot("read", self._limiters.reads) as slot:
            slot.untypical()
            await cast("Copying", self._store).copy(key, pin, descriptor)

    async def link(self, key: Key, pin: Pin, *, expires_s: int) -> Link:
        """See `protocols.Linking`; one request at most is made for all links of a store."""
        return await cast("Linking", self._store).link(key, pin, expires_s=expires_s)

    def _slot(self, operation: str, limiter: Limiter) -> AbstractAsyncContextManager[Slot]:
        name = (self._backend, operation)
        return _Request(name, limiter, self._caps, self._counters, self._clock)


class _Request:
    """A request while it holds a slot and is counted.

    A class, not a generator: there is one for every object that is asked for.
    """

    __slots__ = (
        "_caps", "_clock", "_counters", "_held", "_limiter", "_name", "_slot", "_started_s",
    )  # fmt: skip

    def __init__(
        self, name: tuple[str, str], limiter: Limiter, caps: Caps, counters: Counters, clock: Clock
    ) -> None:
        self._name = name
        self._limiter = limiter
        self._caps = caps
        self._counters = counters
        self._clock = clock
        self._held = limiter.slot()

    async def __aenter__(self) -> Slot:
        await self._caps.take()
        try:
            self._slot = await self._held.__aenter__()
        except BaseException:
            self._caps.give()
            raise
        self._counters.open_limit = min(self._limiter.limit, self._caps.in_flight)
        self._counters.open_requests += 1
        self._started_s = self._clock.monotonic()
        return self._slot

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        counters = self._counters
        elapsed_s = self._clock.monotonic() - self._started_s
        counters.answered(*self._name, outcome_of(error), elapsed_s)
        if error is not None and is_throttle(error):
            counters.throttles += 1
            self._slot.throttled()
        counters.open_requests -= 1
        self._caps.give()
        await self._held.__aexit__(kind, error, traceback)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often requests are tried again, and who is told of it."""

    retry: Retry
    on_retry: OnRetry

    async def call(
        self,
        function: Callable[[], Awaitable[Result]],
        when: Callable[[Exception], bool] | None = None,
    ) -> Result:
        """What the function returns, tried again while that may help, or `when` an error says so.

        See `Retry.call`.
        """
        return await self.retry.call(
            function,
            is_retryable=when or is_retryable,
            retry_after_s=retry_after_s,
            on_retry=self.on_retry,
        )


class RetryingStore:
    """A store whose requests are tried again while that may help."""

    def __init__(self, store: Store, retry: Retry, on_retry: OnRetry) -> None:
        self._store = store
        self._retries = Retries(retry, on_retry)

    @property
    def properties(self) -> StoreProperties:
        """See `protocols.Store`."""
        return self._store.properties

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        """See `protocols.Store`."""
        return await self._retries.call(
            lambda: self._store.list_page(keys, prefix=prefix, token=token)
        )

    async def head(
        self, key: Key, *, version_id: str | None = None, checksum: bool = False
    ) -> Head:
        """See `protocols.Store`."""
        return await self._retries.call(
            lambda: self._store.head(key, version_id=version_id, checksum=checksum)
        )

    async def read(
        self, key: Key, pin: Pin, sink: Sink, *, start: int = 0, end: int | None = None
    ) -> None:
        """See `protocols.Store`; what came before a failure is not asked for again, where it can be
        told that the rest is of the same object.
        """
        counting = _CountingSink(sink)
        wanted_bytes = (pin.size if end is None else end) - start

        async def go_on() -> None:
            if counting.size_bytes and not (self.properties.ranges and pin.tells_state):
                counting.restart()
            if 0 < wanted_bytes == counting.size_bytes:
                return
            await self._store.read(key, pin, counting, start=start + counting.size_bytes, end=end)

        await self._retries.call(go_on)

    async def digests(
        self, objects: Sequence[tuple[Key, Pin]], algorithm: str
    ) -> list[bytes | IndexerError]:
        """See `protocols.Digesting`; only objects that failed are asked for again."""
        store = cast("Digesting", self._store)
        found = await store.digests(objects, algorithm)
        for place, one in enumerate(found):
            if isinstance(one, IndexerError) and one.is_retryable:
                found[place] = await self._digest_again(objects[place], algorithm)
        return found

    async def copy(self, key: Key, pin: Pin, descriptor: int) -> None:
        """See `protocols.Copying`."""
        store = cast("Copying", self._store)
        await self._retries.call(lambda: store.copy(key, pin, descriptor))

    async def link(self, key: Key, pin: Pin, *, expires_s: int) -> Link:
        """See `protocols.Linking`."""
        store = cast("Linking", self._store)
        return await self._retries.call(lambda: store.link(key, pin, expires_s=expires_s))

    async def _digest_again(self, wanted: tuple[Key, Pin], algorithm: str) -> bytes | IndexerError:
        async def digest() -> bytes | IndexerError:
            (found,) = await cast("Digesting", self._store).digests([wanted], algorithm)
            if isinstance(found, IndexerError) and found.is_retryable:
                raise found
            return found

        return await self._retries.call(digest)


class _CountingSink:
    """A sink that knows how much was written into it. See `protocols.Sink`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.size_bytes = 0

    async def write(self, data: bytes) -> None:
        # From here on they are the sink's, whether or not it comes to an end with them.
        self.size_bytes += len(data)
        await self._sink.write(data)

    def restart(self) -> None:
        self._sink.restart()
        self.size_bytes = 0


class ResilientConnection:
    """A connection whose requests are tried again, and whose stores are wrapped.

    The first contact is tried `first_contact` often only: an endpoint that was never there is most
    likely a slip of the hand, and its user waits. One that asks for fewer requests, or answered
    others, is there.
    """

    def __init__(
        self,
        connection: Connection,
        backend: str,
        *,
        limiters: Limiters,
        caps: Caps,
        retry: Retry,
        first_contact: Retry,
        on_retry: OnRetry,
        counters: Counters,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._backend = backend
        self._limiters = limiters
        self._caps = caps
        self._counters = counters
        self._clock = clock
        self._retry = retry
        self._on_retry = on_retry
        self._retries = Retries(retry, on_retry)
        self._first_contacts = Retries(first_contact, on_retry)

    async def open(
        self, uri: SourceUri, *, without: Collection[Ability] = (), as_of: datetime | None = None
    ) -> OpenedSource:
        """See `protocols.Connection`."""
        source = await self._retries.call(
            lambda: self._first_contacts.call(
                lambda: self._capped(
                    "open", lambda: self._connection.open(uri, without=without, as_of=as_of)
                ),
                lambda error: is_retryable(error) and not _is_there(error),
            ),
            _is_there,
        )
        return replace(source, store=self._wrapped(source.store))

    def _wrapped(self, store: Store) -> Store:
        limited = LimitedStore(
            store,
            self._backend,
            limiters=self._limiters,
            caps=self._caps,
            counters=self._counters,
            clock=self._clock,
        )
        return RetryingStore(limited, self._retry, self._on_retry)

    async def _capped(self, operation: str, call: Callable[[], Awaitable[Result]]) -> Result:
        """What a call returns, made within the user's caps, and counted.

        It may take several requests, one after the other. The bucket's own limiters are not asked:
        few jobs open it at once, and what an opening takes says nothing of a listing.
        """
        await self._caps.take()
        try:
            with counted(self._counters, self._clock, self._backend, operation):
                return await call()
        finally:
            self._caps.give()

    async def lone_object(
        self, uri: SourceUri, *, as_of: datetime | None = None
    ) -> LoneObject | None:
        """See `protocols.Connection`."""
        found = await self._retries.call(
            lambda: self._capped("head", lambda: self._connection.lone_object(uri, as_of=as_of))
        )
        return None if found is None else replace(found, store=self._wrapped(found.store))

    async def objects(self, uri: SourceUri) -> Store:
        """See `protocols.Connection`."""
        return self._wrapped(await self._connection.objects(uri))

    async def credentials(self) -> str:
        """See `protocols.Connection`."""
        return await self._connection.credentials()


@contextmanager
def counted(counters: Counters, clock: Clock, backend: str, operation: str) -> Iterator[None]:
    """Counts what the request of the block came to, and how long that took."""
    started_s, error = clock.monotonic(), None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        counters.answered(backend, operation, outcome_of(error), clock.monotonic() - started_s)


def outcome_of(error: BaseException | None) -> str:
    """What a request came to, in one word."""
    if error is None:
        return "ok"
    if is_throttle(error):
        return "throttled"
    return error.kind if isinstance(error, IndexerError) else "cancelled"


def is_retryable(error: Exception) -> bool:
    """Whether the same request may do better later."""
    return isinstance(error, IndexerError) and error.is_retryable


def _is_there(error: BaseException) -> bool:
    """Whether the error is of a server that surely is there."""
    return isinstance(error, StoreUnavailable) and (error.is_throttle or error.was_answered)


def is_throttle(error: BaseException) -> bool:
    """Whether the server asks for fewer requests."""
    return isinstance(error, StoreUnavailable) and error.is_throttle


def retry_after_s(error: Exception) -> float | None:
    """How long the server wants to be left alone, where it said so."""
    return error.retry_after_s if isinstance(error, StoreUnavailable) else None
