"""Selection: which entries of a version are meant, by how their paths start and by globs."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from indexer.globs import Filters


@dataclass(frozen=True, slots=True)
class Selection:
    """The entries whose paths start with `prefix` and that `filters` keep."""

    prefix: bytes = b""
    filters: Filters = field(default_factory=Filters)

    def __bool__(self) -> bool:
        """Whether anything may be left out."""
        return bool(self.prefix or self.filters)

    def of(self, table: pa.Table) -> list[int]:
        """The rows of a shard that are meant, by number."""
        kept = pc.starts_with(table.column("path"), self.prefix) if self.prefix else None
        if self.filters:
            selector = self.filters.selector()
            batches = [selector.keeps(batch) for batch in table.to_batches()]
            matched = pa.chunked_array(batches, pa.bool_())
            kept = matched if kept is None else pc.and_(kept, matched)
        if kept is None:
            return list(range(table.num_rows))
        return pc.indices_nonzero(kept).to_pylist()  # type: ignore[no-any-return]
