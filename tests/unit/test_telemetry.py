"""Logs and messages: what is a secret is not in them.

Invariants
  * Passwords in URLs are blanked however they are written; what only looks like one is left.
"""

from __future__ import annotations

import json

import pytest

from indexer.errors import InvalidReference
from indexer.sources import parse_source
from indexer.telemetry import new_logger, without_credentials

PASSWORDS = ("hidden", "hid den", "hid/den", "hid?den", "hid#den", "hid@den", "1hid/den", "h\\den")


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["https", "urls+https", "s3", "ftp"])
def test_a_password_is_blanked_however_it_is_written(scheme: str, password: str) -> None:
    text = f"{scheme}://user:{password}@host/path"
    assert without_credentials(text) == f"{scheme}://***@host/path"
    with pytest.raises(InvalidReference) as caught:
        parse_source(text)
    assert "den" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/a@b",
        "https://host/a:b@c",
        "s3://bucket/key:with@signs",
        "https://[::1]:80/a@b",
        "http://host: refused; write to me@host",
        "https://host:80 answered a@b",
    ],
)
def test_what_is_no_password_is_left(text: str) -> None:
    assert without_credentials(text) == text


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_traceback_is_logged_without_the_values_in_it(
    style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = new_logger("error", style)

    def fail(key: str) -> None:
        raise ValueError(f"https://user:word@host/ {len(key)}")

    try:
        fail("hidden" * 2)
    except ValueError as error:
        log.exception("failed", exc_info=error)
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "https://***@host/ 12" in said
    assert "hiddenhidden" not in said
    if style == "json":
        assert "in fail" in json.loads(said)["exception"]
