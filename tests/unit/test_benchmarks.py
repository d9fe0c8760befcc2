"""The benchmarks' figures: what is measured of a process, what follows from it, what is kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import filled, measure
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.beside import Work, compare
from benchmarks.filled import Files, body_of, kind_of, quick_folder
from benchmarks.goals import (
    AIOBOTOCORE_HEAD,
    BARE_MD5,
    FIRST,
    OBSTORE_HEAD,
    ONE_THREAD,
    OUR_HEAD,
    SECOND,
    TWO_THREADS,
    outcomes,
)
from benchmarks.measure import Counted, Endpoint, Run, RunFailed, Series, run
from benchmarks.report import report
from benchmarks.results import Measurement, Sitting, append, newest, read
from benchmarks.sizes import QUICK
from benchmarks.tools import OURS, TOOLS, Tool, count_number, count_said

ENDPOINT = Endpoint("http://127.0.0.1:9", "key", "secret", "us-east-1")
BUSY = "import time\nwhile time.process_time() < {cpu_s}: pass\n"
ASK = """
import os, socket, sys, time
host, port = os.environ[sys.argv[1]].removeprefix("http://").split(":")
socket.create_connection((host, int(port))).sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
time.sleep(600)
"""


def python(program: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", program]


# --- a process -----------------------------------------------------------------------------------


def test_what_a_process_takes() -> None:
    taken = run(python(BUSY.format(cpu_s=0.3) + "time.sleep(0.3); print('done')"))
    assert 0.3 <= taken.cpu_s < 5
    assert taken.wall_s >= 0.6
    assert taken.output == "done\n"


def test_a_peak_is_the_process_s_own() -> None:
    ballast = bytearray(200_000_000)
    small, large = run(python("")), run(python("b'x' * 100_000_000"))
    assert small.memory_peak_bytes < 60_000_000 < len(ballast)
    assert 100_000_000 < large.memory_peak_bytes - small.memory_peak_bytes / 2 < 160_000_000


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST"])
def test_a_start_ends_with_the_first_request(variable: str) -> None:
    command = [*python(BUSY.format(cpu_s=0.3) + ASK), variable]
    taken = run(command, ENDPOINT, is_until_request=True)
    assert 0.3 <= taken.cpu_s < 5
    assert taken.wall_s < measure.START_TIMEOUT_S


def test_a_program_that_fails_is_no_measurement() -> None:
    with pytest.raises(RunFailed, match=r"exit code 3\nbroken"):
        run(python("import sys; sys.stderr.write('broken'); sys.exit(3)"))
    with pytest.raises(RunFailed, match="ended without a request"):
        run(python(""), ENDPOINT, is_until_request=True)


def test_settings_of_the_user_are_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("INDEXER_DATA", str(tmp_path))
    seen = json.loads(run(python("import json, os; print(json.dumps(dict(os.environ)))")).output)
    assert "AWS_PROFILE" not in seen
    assert seen["INDEXER_DATA"] != str(tmp_path)
    assert not Path(seen["INDEXER_DATA"]).parent.exists()


def test_a_program_has_to_find_every_object() -> None:
    series = Series(python("print(7)"), ENDPOINT, lambda output: Counted(int(output)))
    series.run(7)
    with pytest.raises(RunFailed, match="found 7 of 8 objects"):
        series.run(8)
    assert len(series.runs) == 1


def test_a_program_may_say_itself_what_it_took() -> None:
    said = 'print(\'a log\'); print(\'{"objects": 2, "wall_s": 7.5, "bytes": 15}\')'
    series = Series(python(said), None, count_said)
    series.run(2)
    series.run(2)
    assert series.figures()["wall_s"] == 7.5
    assert series.samples()["wall_s"] == [7.5, 7.5]
    assert series.figures()["cpu_s"] < 5
    assert "start_wall_s" not in series.figures() | series.samples()


def test_a_start_without_a_request_is_a_run_of_its_own() -> None:
    series = Series(python("print(7)"), None, count_number, python(BUSY.format(cpu_s=0.3)))
    series.start()
    series.run(7)
    assert series.figures()["start_cpu_s"] >= 0.3 > series.figures()["cpu_s"]


# --- what is measured on -------------------------------------------------------------------------


def test_files_are_as_many_and_as_large_as_they_should_be() -> None:
    wanted = Files(7, folders=3, size_bytes=1000)
    with quick_folder(wanted.bytes, wanted.count) as folder:
        wanted.write(folder / "here")
        found = [path for path in folder.rglob("*") if path.is_file()]
        contents = {path.read_bytes() for path in found}
        assert len(found) == len(contents) == 7
        assert {len(content) for content in contents} == {1000}
        assert len({path.parent for path in found}) == 3
    assert not folder.exists()


def test_bytes_follow_from_name_and_salt() -> None:
    assert body_of(b"a", 100) == body_of(b"a", 100)
    assert len({body_of(b"a", 100), body_of(b"b", 100), body_of(b"a", 100, "changed")}) == 3


def test_a_folder_is_elsewhere_where_memory_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filled, "MEMORY", Path("/nowhere"))
    with quick_folder(1, 1) as folder:
        assert kind_of(folder) == "on a disk"


def test_a_tool_that_fails_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    tools = [
        Tool("good", "", "", (), lambda *words: python(f"print({words[1]})"), count_number),
        Tool("short", "", "", (), lambda *_: python("print(2)"), count_number),
        Tool("broken", "", "", (), lambda *_: python("exit(1)"), count_number),
        Tool("absent", "", "", ("no_such_module",), lambda *_: [], count_number),
    ]
    sitting = Sitting(None)
    work = Work("stores", {"shape": "file"}, "many", 3, start_source="one", is_warmed=True)
    compare(sitting, replace(QUICK, is_fair=True), work, tools)
    assert [one.tool for one in sitting.measurements] == ["good"]
    assert sitting.measurements[0].workload == {"shape": "file", "objects": 3}
    assert sitting.measurements[0].figures["start_wall_s"] > 0
    assert len(sitting.failures) == 2
    said = capsys.readouterr().err
    assert "left out: absent" in said
    assert "stores, file, short: " in said


# --- the benchmarks ------------------------------------------------------------------------------


def pretended(
    command: Sequence[str], endpoint: Endpoint | None = None, *, is_until_request: bool = False
) -> Run:
    """A run that takes one second and 1 µs of CPU and 10 bytes an object, a tenth in parallel."""
    if is_until_request or "--help" in command:
        return Run(1.0, 0.5, 1e8, "")
    if "benchmarks.macro.warm" in command:
        return Run(1.0, 1.0, 1e8, "a line of a log\n[[1.0, 2.0], [2.1, 2.0], [1.5, 2.0]]\n")
    (bucket,) = (word for word in command if word.startswith("s3://"))
    objects = int(bucket.rpartition("-")[2])
    in_flight = next(int(w.rpartition("=")[2]) for w in command if w.startswith("--in-flight="))
    said = {"objects": objects, "requests": objects // 500, "elapsed_s": 1.0}
    wall_s = 1.5 + objects / 1000 / in_flight
    return Run(wall_s, 0.5 + objects * 1e-6, 1e8 + 10 * objects, json.dumps(said))


@pytest.fixture
def pretending(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("measure", "macro.margin", "macro.small"):
        monkeypatch.setattr(f"benchmarks.{module}.run", pretended)


@pytest.mark.usefixtures("pretending")
@pytest.mark.parametrize(
    ("benchmark_", "expected"),
    [
        (
            "margin",
            {
                "CPU at the margin, hex": 1.0,
                "start-up to the first request": 0.5,
                "indexer --help": 0.5,
            },
        ),
        (
            "latency",
            # Serial: a second per thousand. Of 64 at once: half a second, and 20,000 keys.
            {
                "hex: faster than one at a time": 20 / (0.5 + 20 / 64),
                "hex: requests for 1,000 keys": 2.0,
            },
        ),
        ("small", {"0 ms a page: time to one at a time's": 0.75}),
        (
            "memory",
            {
                "hex: peak at 20,000 objects": 100.2,
                "hex: that to the peak at 5,000": 100.2 / 100.05,
            },
        ),
    ],
)
def test_what_follows_from_the_figures(benchmark_: str, expected: dict[str, float]) -> None:
    sitting = Sitting(None)
    BENCHMARKS[benchmark_](sitting, QUICK)
    reached = {outcome.text: outcome.value for outcome in outcomes(sitting.measurements)}
    assert reached == pytest.approx(expected, rel=1e-3)
    # Of a sitting that was broken off, what can be said is said.
    assert {outcome.text for outcome in outcomes(sitting.measurements[:1])} <= set(expected)


def minio_measurement(tool: str, wall_s: float, objects: int = 1000, **more: Any) -> Measurement:
    workload = {"shape": "tree", "versioned": False, "objects": objects, **more}
    figures = {"objects": objects, "wall_s": wall_s, "start_wall_s": 1.0}
    machine = {"cpu": "a", "cores": 2, "python": "3.11"}
    return Measurement("minio", workload, tool, figures, machine=machine)


def test_tools_are_compared_without_their_starts() -> None:
    found = [
        minio_measurement(OURS.name, 2.0),
        minio_measurement("obstore list", 1.5),
        minio_measurement("boto3 paginator", 5.0),
        minio_measurement("wandb add_reference", 3.0, objects=100),
        minio_measurement(OURS.name, 2.5, versioned=True),
    ]
    assert {outcome.text: outcome.value for outcome in outcomes(found)} == {
        "tree: our time to obstore's": 2.0,
        "tree: boto3's time to ours": 4.0,
        "tree: our rate to wandb's": 20.0,
        "versioned tree to unversioned": 1.5,
    }
    shown = report(found)
    assert "| tree            | boto3 paginator     | 1,000 " in shown
    assert "| minio     | tree: our time to obstore's   | 2.00 x  | at most 1.3 | NO " in shown


def test_rates_of_asking_are_compared() -> None:
    found = [
        replace(minio_measurement(tool, wall_s), benchmark="heads", figures=figures)
        for tool, wall_s in ((OUR_HEAD, 2.0), (AIOBOTOCORE_HEAD, 8.0), (OBSTORE_HEAD, 1.0))
        for figures in ({"objects": 1000, "wall_s": wall_s},)
    ]
    reached = {outcome.text: (outcome.value, outcome.is_reached) for outcome in outcomes(found)}
    assert reached == {
        "our rate to aiobotocore's": (4.0, True),
        "our rate to obstore's": (0.5, False),
    }


def test_a_run_no_longer_than_its_start_says_nothing() -> None:
    found = [minio_measurement(OURS.name, 0.9), minio_measurement("obstore list", 1.5)]
    assert found[0].figure("objects_per_s") is None
    assert outcomes(found) == []


def checksums_measurement(tool: str, wall_s: float, **more: Any) -> Measurement:
    figures = {"objects": 10, "bytes": 6e8, "wall_s": wall_s, "start_wall_s": 0.5}
    machine = {"cpu": "a", "cores": 2, "python": "3.11"}
    workload = {"shape": "files", "objects": 10, **more}
    return Measurement("checksums", workload, tool, figures, machine=machine)


def test_rates_in_bytes_are_compared() -> None:
    found = [
        checksums_measurement(OURS.name, 2.5),
        checksums_measurement(BARE_MD5, 1.5),
        checksums_measurement(TWO_THREADS, 1.0),
        checksums_measurement(ONE_THREAD, 1.5),
        checksums_measurement(ONE_THREAD, 2.5, shape="others"),
    ]
    assert {outcome.text: outcome.value for outcome in outcomes(found)} == {
        "files: our rate to hashlib's on one core": 0.5,
        "files: two threads to one": 2.0,
    }
    assert [outcome.is_reached for outcome in outcomes(found)] == [False, True]
    assert found[0].figure("bytes_per_s") == 3e8
    assert "| MB/s" in report(found)


def test_a_second_snapshot_is_to_read_what_changed() -> None:
    figures = {"objects": 100, "wall_s": 1.0, "bytes_read": 20.0, "bytes_changed": 10.0}
    found = [
        Measurement("enrich", {}, FIRST, {**figures, "bytes_read": 1000.0}),
        Measurement("enrich", {}, SECOND, figures),
    ]
    (outcome,) = outcomes(found)
    assert outcome.value == 2.0
    assert not outcome.is_reached
    assert outcomes(found[:1]) == []


def test_ours_is_the_first_tool() -> None:
    assert TOOLS[0] is OURS
    assert OURS.is_installed
    assert len({tool.name for tool in TOOLS}) == len(TOOLS)


# --- what is kept --------------------------------------------------------------------------------


def test_results_are_only_added_to(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    first, second = Sitting(file), Sitting(file)
    first.record("small", {"objects": 3}, "tool é", {"wall_s": 1.25}, samples={"wall_s": [1.25]})
    before = file.read_bytes()
    second.record("small", {"objects": 3}, "tool é", {"wall_s": 1.5})
    assert file.read_bytes().startswith(before)
    assert read(file) == first.measurements + second.measurements
    assert first.measurements[0].machine["cores"] >= 1


def test_the_newest_sitting_of_each_benchmark_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    assert read(file) == []
    old = replace(minio_measurement(OURS.name, 2.0), sitting="2026-01-01T00:00:00Z")
    new = replace(old, sitting="2026-01-02T00:00:00Z")
    small = replace(old, benchmark="small")
    for one in (old, small, new):
        append(file, one)
    assert newest(read(file)) == [small, new]


def test_report_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--results", str(tmp_path / "none")]) == 0
    assert "no measurements" in capsys.readouterr().out
