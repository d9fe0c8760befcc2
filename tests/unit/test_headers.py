"""Headers of HTTP: what they tell, and that no text of a server makes reading them fail."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.stores.headers import (
    ContentRange,
    parse_content_range,
    parse_date,
    parse_number,
    retry_after_s,
)

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)

TEXTS = st.text(max_size=60) | st.from_regex(
    r"\A(\w{3}, [0-9]{1,30} Feb [0-9]{1,30} [0-9:]{0,40} ?(GMT|[+-][0-9]{1,9})?"
    r"|bytes [0-9*]{1,40}-?[0-9]{0,40}/[0-9*]{1,40})\Z"
)


@given(TEXTS, TEXTS)
def test_any_text_is_read_or_is_none(text: str, other: str) -> None:
    date, number = parse_date(text), parse_number(text)
    assert date is None or date.tzinfo is not None
    assert number is None or 0 <= number < 2**63
    seconds = retry_after_s({"Retry-After": text, "Date": other})
    assert seconds is None or seconds >= 0
    told = parse_content_range(text)
    assert told is None or max(told.start or 0, told.end or 0, told.size or 0) < 2**63


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)))  # noqa: DTZ001 - as given
def test_dates_are_read_as_the_library_reads_them(time: datetime) -> None:
    time = time.replace(microsecond=0, tzinfo=UTC)
    assert parse_date(format_datetime(time, usegmt=True)) == time
    assert parse_date(format_datetime(time)) == time


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("Thu, 29 Feb 2024 12:00:00 GMT", NOON),
        ("Thu, 29 Feb 2024 13:00:00 +0100", NOON),
        ("Thu Feb 29 12:00:00 2024", NOON),
        ("", None), ("yesterday", None), ("Thu, 99 Feb 2024 12:00:00 GMT", None), (None, None),
        ("Thu, 29 Feb 99999999999 12:00:00 GMT", None),
    ],
)  # fmt: skip
def test_dates(text: str | None, time: datetime | None) -> None:
    assert parse_date(text) == time


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0), ("120", 120.0), ("Thu, 29 Feb 2024 12:01:30 GMT", 90.0),
        ("Thu, 29 Feb 2024 11:00:00 GMT", 0.0), ("soon", None), ("", None), ("-5", None),
        ("1.5", None), ("٣", None), ("²", None), ("9" * 5_000, None),
    ],
)  # fmt: skip
def test_what_the_server_asks_for_is_heard(header: str, seconds: float | None) -> None:
    told = {"Retry-After": header, "Date": "Thu, 29 Feb 2024 12:00:00 GMT"}
    assert retry_after_s(told) == seconds
    assert retry_after_s({}) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bytes 0-9/100", ContentRange(0, 10, 100)),
        ("Bytes 5-5/*", ContentRange(5, 6, None)),
        ("bytes */100", ContentRange(None, None, 100)),
        ("bytes 0-9", None), ("items 0-9/100", None), ("bytes 0-/100", None), ("", None),
        (f"bytes 0-{'9' * 5_000}/1", None), ("bytes ٣-٣/1", None), (None, None),
    ],
)  # fmt: skip
def test_ranges(text: str | None, told: ContentRange | None) -> None:
    assert parse_content_range(text) == told
