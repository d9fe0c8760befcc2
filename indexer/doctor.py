"""doctor: how a source would be reached, asked step by step and told in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from indexer import __version__
from indexer.keyspace import KeyRange
from indexer.protocols import Connection
from indexer.sources import SourceUri


async def examine(connection: Connection, uri: SourceUri, data: Path) -> dict[str, Any]:
    """What is found, by name. Raises what opening the source raises."""
    source = await connection.open(uri)
    properties, record = source.store.properties, source.record
    listing = await source.store.list_page(KeyRange())
    return {
        "indexer": __version__,
        "data_folder": str(data),
        "source": source.folder,
        "endpoint": record.get("endpoint"),
        "endpoint_from": record.get("endpoint_from"),
        "region": record.get("region"),
        "credentials": await connection.credentials(),
        "server": record.get("server"),
        "versioning": record.get("versioning"),
        "listed_by": record.get("operation"),
        "parallel_listing": properties.parallel,
        "abilities": dict(source.abilities),
        "warnings": list(source.warnings),
        "objects_on_first_page": listing.rows.num_rows,
    }
