"""The errors of the package, and how one leaves a group."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from workers.errors import ChannelBroken, Closed, WorkerError, single_error


def test_the_first_line_of_a_class_is_its_message() -> None:
    assert str(Closed()) == "No more work is taken: this is closed or closing."
    assert str(Closed("the pool has ended")) == "the pool has ended"
    assert isinstance(Closed(), WorkerError)


def test_what_is_no_group_passes_as_it_is() -> None:
    with single_error():
        pass
    with pytest.raises(KeyError), single_error():
        raise KeyError
    with pytest.raises(asyncio.CancelledError), single_error():
        raise asyncio.CancelledError


def test_the_first_error_that_is_no_consequence_is_raised() -> None:
    cause = KeyError("cause")
    first = ValueError("first")
    first.__cause__ = cause
    inner = ExceptionGroup("inner", [ChannelBroken("b"), first, OSError("later")])
    with pytest.raises(ValueError, match="first") as raised, single_error():
        raise ExceptionGroup("outer", [ChannelBroken("a"), inner])
    assert raised.value is first
    assert raised.value.__cause__ is cause
    assert raised.value.__context__ is None
    (note,) = raised.value.__notes__
    assert note.startswith("3 more failed beside it: ")
    assert "OSError('later')" in note


def test_consequences_alone_are_raised_too() -> None:
    with pytest.raises(ChannelBroken, match="a"), single_error():
        raise ExceptionGroup("group", [ChannelBroken("a"), ChannelBroken("b")])


def test_importing_the_package_loads_none_of_it() -> None:
    code = (
        "import sys, workers;"
        "loaded = [name for name in sys.modules if name.startswith(('workers.', 'asyncio'))];"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
