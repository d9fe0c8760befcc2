"""What the daemon says of itself: its interface, its health, its figures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from indexer import __version__
from indexer.daemon.metrics import CONTENT_TYPE
from indexer.daemon.openapi import document_of
from indexer.daemon.operation import Answer, Call, Operation, Parts
from indexer.daemon.pages import HTML_TYPE, docs_page
from indexer.remote import JSON_TYPE
from indexer.wire.tracking import Health

PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
UNAVAILABLE: Final = 503


def about(others: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations that tell of the `others` and of themselves."""

    @cache
    def interface() -> bytes:
        return document_of((*others, *own))

    async def get_openapi(_parts: Parts, _call: Call) -> Answer:
        """Gives this interface as an OpenAPI document."""
        return Answer(interface())

    async def get_docs(_parts: Parts, _call: Call) -> Answer:
        """Shows this interface to people."""
        return Answer(
            docs_page(interface()),
            media_type=HTML_TYPE,
            headers={"Content-Security-Policy": PAGE_POLICY},
        )

    own = (
        Operation("GET", "/openapi.json", "Get this interface", get_openapi, {200: JSON_TYPE}),
        Operation("GET", "/docs", "Read about this interface", get_docs, {200: HTML_TYPE}),
        Operation("GET", "/healthz", "Ask whether it lives", get_health, {200: Health}),
        Operation(
            "GET", "/readyz", "Ask whether it can work", get_readiness,
            {200: Health, UNAVAILABLE: Health},
        ),
        Operation("GET", "/metrics", "Get figures for Prometheus", get_metrics,
                  {200: CONTENT_TYPE}),
    )  # fmt: skip
    return own


async def get_health(_parts: Parts, _call: Call) -> Answer:
    """Says that the daemon answers."""
    return Answer(Health(status="ok", version=__version__))


async def get_readiness(parts: Parts, _call: Call) -> Answer:
    """Says whether all that is needed works."""
    health = await parts.health.readiness(parts.threads, is_stopping=parts.service.is_stopping)
    return Answer(health, status=200 if health.status == "ok" else UNAVAILABLE)


async def get_metrics(parts: Parts, _call: Call) -> Answer:
    """Gives all figures."""
    return Answer(parts.metrics.text(), media_type=CONTENT_TYPE)
