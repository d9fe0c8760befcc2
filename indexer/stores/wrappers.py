"""What every store is wrapped in: a limit to its requests, and trying again.

    RetryingStore(LimitedStore(store)), as a ResilientConnection opens it

Invariants
  * A wrapper is a store itself and changes no answer.
  * A request that waits to be tried again holds no slot.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from indexer.errors import Ability, IndexerError, StoreUnavailable
from indexer.keyspace import Key, KeyRange
from indexer.page import Page
from indexer.protocols import Connection, ListedPage, OpenedSource, Store, StoreProperties
from indexer.references import SourceUri
from indexer.telemetry import Counters
from workers.clock import Clock
from workers.limiter import Limiter
from workers.retry import Retry

Result = TypeVar("Result")

OnRetry = Callable[[int, Exception, float], None]


class LimitedStore:
    """A store of which only so many requests are under way at once, and are counted."""

    def __init__(self, store: Store, limiter: Limiter, counters: Counters, clock: Clock) -> None:
        self._store = store
        self._limiter = limiter
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
        async with self._limiter.slot() as slot:
            self._counters.open_limit = self._limiter.limit
            self._counters.open_requests += 1
            try:
                with counted(self._counters, self._clock, "list"):
                    page = await self._store.list_page(keys, prefix=prefix, token=token)
            except StoreUnavailable as error:
                if error.is_throttle:
                    self._counters.throttles += 1
                    slot.throttled()
                raise
            finally:
                self._counters.open_requests -= 1
            if page.rows.num_rows < page.entries or not page.more:
                # A short page, or one of delete markers, says nothing of how busy the server is.
                slot.untypical()
            return page


class RetryingStore:
    """A store whose requests are tried again while that may help."""

    def __init__(self, store: Store, retry: Retry, on_retry: OnRetry) -> None:
        self._store = store
        self._retry = retry
        self._on_retry = on_retry

    @property
    def properties(self) -> StoreProperties:
        """See `protocols.Store`."""
        return self._store.properties

    async def list_page(
        self, keys: KeyRange, *, prefix: Key = Key(b""), token: str | None = None
    ) -> ListedPage:
        """See `protocols.Store`."""
        return await self._retry.call(
            lambda: self._store.list_page(keys, prefix=prefix, token=token),
            is_retryable=is_retryable,
            retry_after_s=retry_after_s,
            on_retry=self._on_retry,
        )


class ResilientConnection:
    """A connection whose requests are tried again, and whose stores are wrapped.

    The first contact is tried `first_contact` often only: an endpoint that was never there is most
    likely a slip of the hand, and its user waits. One that asks for fewer requests is there.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        limiter: Limiter,
        retry: Retry,
        first_contact: Retry,
        on_retry: OnRetry,
        counters: Counters,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._limiter = limiter
        self._counters = counters
        self._clock = clock
        self._retry = retry
        self._first_contact = first_contact
        self._on_retry = on_retry

    async def open(self, uri: SourceUri, *, without: Collection[Ability] = ()) -> OpenedSource:
        """See `protocols.Connection`."""
        source = await self._retry.call(
            lambda: self._first_contact.call(
                lambda: self._counted("open", self._connection.open(uri, without=without)),
                is_retryable=lambda error: is_retryable(error) and not is_throttle(error),
                on_retry=self._on_retry,
            ),
            is_retryable=is_throttle,
            retry_after_s=retry_after_s,
            on_retry=self._on_retry,
        )
        limited = LimitedStore(source.store, self._limiter, self._counters, self._clock)
        return replace(source, store=RetryingStore(limited, self._retry, self._on_retry))

    async def _counted(self, operation: str, call: Coroutine[Any, Any, Result]) -> Result:
        with counted(self._counters, self._clock, operation):
            return await call

    async def lone_object(self, uri: SourceUri) -> Page | None:
        """See `protocols.Connection`."""
        return await self._retry.call(
            lambda: self._counted("head", self._connection.lone_object(uri)),
            is_retryable=is_retryable,
            retry_after_s=retry_after_s,
            on_retry=self._on_retry,
        )


@contextmanager
def counted(counters: Counters, clock: Clock, operation: str) -> Iterator[None]:
    """Counts what the request of the block came to, and how long that took."""
    started_s, error = clock.monotonic(), None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        counters.answered(operation, outcome_of(error), clock.monotonic() - started_s)


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


def is_throttle(error: BaseException) -> bool:
    """Whether the server asks for fewer requests."""
    return isinstance(error, StoreUnavailable) and error.is_throttle


def retry_after_s(error: Exception) -> float | None:
    """How long the server wants to be left alone, where it said so."""
    return error.retry_after_s if isinstance(error, StoreUnavailable) else None
