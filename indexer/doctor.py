"""doctor: how a source would be reached, asked step by step and told in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from indexer import __version__
from indexer.keyspace import KeyRange
from indexer.protocols import S3Options
from indexer.sources import SourceUri
from indexer.stores.s3 import S3Connection
from indexer.stores.s3_client import chosen_endpoint


async def examine(
    connection: S3Connection, uri: SourceUri, options: S3Options, data: Path
) -> dict[str, Any]:
    """What is found, by name. Raises what opening the source raises."""
    source = await connection.open(uri)
    properties = source.store.properties
    listing = await source.store.list_page(KeyRange())
    return {
        "indexer": __version__,
        "data_folder": str(data),
        "source": source.folder,
        "endpoint": connection.endpoint,
        "endpoint_from": chosen_endpoint(options).origin,
        "region": source.record["region"],
        "credentials": await connection.credentials(),
        "server": source.record["server"],
        "versioning": source.record["versioning"],
        "listed_by": source.record["operation"],
        "parallel_listing": properties.parallel,
        "objects_on_first_page": listing.rows.num_rows,
    }
