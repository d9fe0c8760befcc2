"""Collections of garbage as documents."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from indexer.limits import DURATION_S_MAX, GARBAGE_GRACE_S_DEFAULT
from indexer.records import Amount, GarbageKind, GarbageReport
from indexer.wire.base import Answer, Order


class GarbageOrder(Order, frozen=True, kw_only=True):
    """A collection of garbage: what nobody refers to and is older than `grace_s` seconds.

    With `dry_run` it is said what would be deleted, and nothing is.
    """

    grace_s: Annotated[float, Meta(ge=0, le=DURATION_S_MAX)] = GARBAGE_GRACE_S_DEFAULT
    dry_run: bool = False


class AmountDocument(Answer, frozen=True, kw_only=True):
    """Files and their bytes."""

    files: int
    bytes: int

    @classmethod
    def of(cls, amount: Amount) -> AmountDocument:
        """The document of an amount."""
        return cls(files=amount.files, bytes=amount.size_bytes)

    def record(self) -> Amount:
        """The amount of the document."""
        return Amount(self.files, self.bytes)


class GarbageDocument(Answer, frozen=True, kw_only=True):
    """What a collection came to, or with `dry_run` would have.

    `expired` are versions whose time had come, `deleted` what became of files by kind, `files` and
    `bytes` all of that. `kept` is what no version needs either, but is newer than the grace, or
    than the oldest job that runs.
    """

    dry_run: bool
    grace_s: float
    expired: list[str]
    deleted: dict[GarbageKind, AmountDocument]
    files: int
    bytes: int
    kept: AmountDocument

    @classmethod
    def of(cls, report: GarbageReport) -> GarbageDocument:
        """The document of a report."""
        return cls(
            dry_run=report.is_dry_run,
            grace_s=report.grace_s,
            expired=list(report.expired),
            deleted={kind: AmountDocument.of(each) for kind, each in report.deleted.items()},
            files=report.total.files,
            bytes=report.total.size_bytes,
            kept=AmountDocument.of(report.kept),
        )

    def record(self) -> GarbageReport:
        """The report of the document."""
        return GarbageReport(
            is_dry_run=self.dry_run,
            grace_s=self.grace_s,
            expired=tuple(self.expired),
            deleted={kind: each.record() for kind, each in self.deleted.items()},
            kept=self.kept.record(),
        )
