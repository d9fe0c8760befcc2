"""Results as JSON and as Python's values, whatever times are in them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from indexer.artifact.query.encoded import encoded
from indexer.artifact.query.results import Result

LATE = "<value out of range: 9223372036854775807>"
EXACT = "2020-01-01 00:00:00.123456789"
NS = 1_577_836_800_123_456_789


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pa.array([2**63 - 1], pa.timestamp("us")), LATE),
        (pa.array([-1_000_000], pa.date32()), "-0768-02-04"),
        (pa.array([NS], pa.timestamp("ns")), EXACT),
        (pa.array([NS], pa.timestamp("ns", "UTC")), EXACT + "Z"),
        (pa.array([[NS]], pa.list_(pa.timestamp("ns"))), [EXACT]),
        (pa.array([{"a": NS}], pa.struct({"a": pa.timestamp("ns")})), {"a": EXACT}),
        (pa.array([NS // 1000], pa.timestamp("us")), "2020-01-01T00:00:00.123456"),
    ],
)
def test_times_that_python_cannot_hold_are_text(column: Any, shown: Any) -> None:
    table = pa.table({"a": column})
    assert json.loads(encoded(table, "json"))["rows"] == [[shown]]
    result = Result(table)
    assert len(list(result.cells())) == len(result.to_pylist()) == 1
    assert (result.to_csv() or "").count("\n") == 2
