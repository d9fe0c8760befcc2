"""What servers were found to honour, kept so that each is asked once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from indexer.catalog.database import Database
from indexer.catalog.schema import endpoint_facts
from workers.clock import Clock


class Facts:
    """`EndpointFacts` in the catalog; the last writer's stay."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get_facts(self, endpoint: str) -> dict[str, Any] | None:
        """What is known of an endpoint; None when nothing is."""
        return await self._database.read(_get, endpoint)

    async def put_facts(self, endpoint: str, facts: dict[str, Any]) -> None:
        """Keeps what was found, in place of what was known."""
        await self._database.write(_put, endpoint, facts, self._clock.now())


def _get(connection: Connection, endpoint: str) -> dict[str, Any] | None:
    return connection.execute(
        select(endpoint_facts.c.facts).where(endpoint_facts.c.endpoint == endpoint)
    ).scalar()


def _put(connection: Connection, endpoint: str, facts: dict[str, Any], now: datetime) -> None:
    values = {"facts": facts, "updated_at": now}
    changed = connection.execute(
        update(endpoint_facts).where(endpoint_facts.c.endpoint == endpoint).values(values)
    )
    if not changed.rowcount:
        connection.execute(insert(endpoint_facts).values(endpoint=endpoint, **values))
