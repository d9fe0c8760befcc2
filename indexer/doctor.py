"""doctor: how a source would be reached, asked step by step and told in words."""

from __future__ import annotations

from typing import Any

from indexer import __version__
from indexer.app import App, SourceOptions
from indexer.keyspace import KeyRange
from indexer.references import SourceUri
from indexer.stores.s3_client import chosen_endpoint


async def examine(app: App, uri: SourceUri, options: SourceOptions) -> dict[str, Any]:
    """What is found, by name. Raises what opening the source raises."""
    async with app.s3(options.s3) as connection:
        source = await connection.open(uri)
        properties = source.store.properties
        listing = await source.store.list_page(KeyRange())
        return {
            "indexer": __version__,
            "data_folder": str(app.catalog.folder.path),
            "source": source.folder,
            "endpoint": connection.endpoint,
            "endpoint_from": chosen_endpoint(options.s3).origin,
            "region": source.record["region"],
            "credentials": await connection.credentials(),
            "server": source.record["server"],
            "versioning": source.record["versioning"],
            "listed_by": source.record["operation"],
            "parallel_listing": properties.parallel,
            "objects_on_first_page": listing.rows.num_rows,
        }
