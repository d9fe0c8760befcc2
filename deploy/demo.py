"""Shows what the indexer does, on a real S3 server and a daemon that live as long as this does.

    make demo                          half a minute, and nothing is left behind
    python -m deploy.demo --keep       the same, and all of it stays up until Ctrl-C

Invariants
  * Each line that begins with `$` is a command that is run exactly as shown, and what follows is
    what it printed. JSON is laid out for readers; where only a part of it is shown, that is said.
  * No setting, credential or data folder of the user's has a part in it or is touched.
  * However it ends, `kill -9` included, the servers, their data and the catalog made here are gone
    afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import http.client
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from deploy import processes
from deploy.s3_server import S3Server, ServerError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

BUCKET: Final = "demo"
ARTIFACT: Final = "demo/objects"
SERVE: Final = "indexer serve --port 0 --max-objects 100000"
ORDER: Final = json.dumps({"uri": f"s3://{BUCKET}", "name": ARTIFACT})
SNAPSHOT: Final = f"indexer snapshot s3://{BUCKET} --name {ARTIFACT}"

OBJECTS: Final = {"minio": 20_000, "moto": 2_000}
"""moto takes objects one by one, some hundred a second."""

SHARES: Final = {"imagenet": 4, "runs": 4, "dates": 4, "unicode": 1, "hex": 3}
"""Key shapes of the bucket, and how many sixteenths of the objects have each."""

SEED: Final = 28
"""Shards end where a hash of the path says so, every 16,384 objects in the mean. Of this seed's
objects there are four shards, and two where there are but 2,000 objects."""

FOLDER: Final = "drive/run_0000/"
CHANGED_FOLDER: Final = f"{FOLDER}cam_front/"
CHANGES: Final = 40
"""Objects of that folder that are deleted, then written anew, then added."""

MEMORY: Final = "/dev/shm"  # noqa: S108 - the folders in it are made for this run alone
MEMORY_BYTES_MIN: Final = 2 * 1024**3
"""All that is written takes some 100 MB, and MinIO stops writing where little is left."""

JSON_WIDTH: Final = 100
PATH_WIDTH: Final = 48
SHARD_DIGITS: Final = 12
"""So many of a shard's digest tell it from the others."""

COMMAND_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 10.0
DAEMON_START_TIMEOUT_S: Final = 60.0
DAEMON_START_POLL_S: Final = 0.05


def main(arguments: Sequence[str]) -> int:
    """Runs the demo and returns its exit code."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    _write_to_memory(os.environ)
    try:
        with S3Server.start(options.kind) as server:
            _use(os.environ, server)
            keys = _show_bucket(server, options.objects or OBJECTS[server.kind])
            with _daemon(os.environ) as url:
                _show_snapshots(url, keys)
                _show_next(is_kept=options.keep)
                if options.keep:
                    _keep(server, url)
            print("\nClearing up.", flush=True)
        print("The daemon, the server and all that they kept are gone again.")
    except (ServerError, DemoError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the servers and their data are gone.", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


class DemoError(Exception):
    """A command of the demo is missing or failed."""


# --- what is shown -------------------------------------------------------------------------------


def _show_bucket(server: S3Server, count: int) -> Sequence[bytes]:
    """Fills the bucket and returns its keys."""
    _head("An S3 server")
    print(f"  {server.kind} {server.version}, from {server.origin}, at {server.endpoint_url}")
    print("  What is run below finds it through AWS_ENDPOINT_URL.")

    _head(f"{count:,} objects in s3://{BUCKET}")
    print("  They are written now, which takes longest of all that is done here.", flush=True)
    keys = _keys(count)
    unpacks = server.kind == "minio"
    started_s = time.monotonic()
    _with_client(lambda client: _load(client, keys, unpacks=unpacks))
    elapsed_s = time.monotonic() - started_s
    for below in _by_top_folder(keys).values():
        print(f"  {len(below):>6,} like {below[0].decode()}")
    print(f"  Written in {elapsed_s:.1f} s.")
    return keys


def _show_snapshots(url: str, keys: Sequence[bytes]) -> None:
    """Three snapshots of the bucket of these keys, made by the daemon at `url`."""
    versions = f"{url}/api/v1/artifacts/{ARTIFACT}/versions"

    _head("A snapshot, asked for over HTTP: no object is read, all of them are referenced")
    job = _document(_curl(f"{url}/api/v1/snapshots", body=ORDER))
    if "id" not in job:
        raise DemoError(f"That was refused: {job.get('detail', job)}")
    _show_json(job)

    _head("Its events, as they come")
    events = f"{url}/api/v1/jobs/{job['id']}/events"
    _show_events(
        _curl(events, options="-sN", note="of each event, which is the whole job as JSON, a part")
    )

    _head("The version that it made. From here on the command works on the daemon, too")
    _export("INDEXER_SERVER", url)
    _command(f"indexer show {ARTIFACT}:v0")

    _head("A version is a list of shards: runs of its objects in key order, named by their content")
    note = "of each shard, a part"
    known = _show_shards(_curl(f"{versions}/v0/manifest", note=note), known={})

    _head(f"What is in a folder of it, {FOLDER}")
    _show_json(_document(_curl(f"{versions}/v0/entries?prefix={FOLDER}&delimiter=/")))

    _head(f"Changes in one folder, {CHANGED_FOLDER}")
    _with_client(lambda client: _change(client, keys))
    print(f"  {CHANGES} objects deleted, {CHANGES} written anew, {CHANGES} added.")

    _head("A second snapshot: only shards that changed are written")
    _command(SNAPSHOT)
    _show_shards(_curl(f"{versions}/v1/manifest", note=note), known)

    _head("A third one, with nothing changed: no version is made")
    _command(SNAPSHOT)

    _head("Both versions are there, and can be named")
    _command(f"indexer alias set {ARTIFACT}:v1 reviewed")
    _command(f"indexer ls {ARTIFACT}")
    _command("indexer jobs ls")


def _show_next(*, is_kept: bool) -> None:
    _head("Next, on a bucket of your own (source .venv/bin/activate finds the command)")
    print("  indexer doctor s3://BUCKET/PREFIX/")
    print("  indexer snapshot s3://BUCKET/PREFIX/ --name PROJECT/ARTIFACT --max-objects 1000000")
    print("  indexer ls PROJECT/ARTIFACT:latest --json")
    print("  indexer note PROJECT/ARTIFACT:v0 'what is special about it'")
    print("  These work on a folder of yours, or with --server URL on a daemon: indexer serve")
    if not is_kept:
        print("  To try more on what is here: .venv/bin/python -m deploy.demo --keep")


def _keep(server: S3Server, url: str) -> None:
    _head("All of it stays up until Ctrl-C")
    print(f"  All that the daemon can be asked, for a browser: {url}/docs")
    print("  In another terminal:")
    for name in (*server.environment(), "INDEXER_SERVER", "INDEXER_CONFIG"):
        print(f"  export {name}={shlex.quote(os.environ[name])}")
    print(f"  indexer snapshot s3://{BUCKET}/logs/ --name demo/logs")
    print("  indexer jobs ls")
    print("  indexer jobs follow JOB")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        server.wait()


def _show_events(lines: Iterable[str]) -> None:
    """Shows a job's events while they come. Raises `DemoError` when it ends without a version."""
    number, job = "", dict[str, Any]()
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            number = value
        elif name == "data":
            job = json.loads(value)
            _show_event(number, job)
    result = job.get("result")
    if result is None:
        raise DemoError(f"No version was made: {job.get('problem')}")
    from indexer.console import bytes_shown

    print(f"  {result['ref']}  {result['objects']:,} objects, {bytes_shown(result['bytes'])}")
    rate = result["listed"] / max(result["elapsed_s"], 0.001)
    print(f"  Listed in {result['elapsed_s']:.2f} s: {rate:,.0f} objects a second.")


def _show_event(number: str, job: Mapping[str, Any]) -> None:
    progress, started, result = job["progress"], job["started_at"], job["result"]
    elapsed_s = 0.0
    if result:
        elapsed_s = result["elapsed_s"]
    elif started:
        elapsed_s = (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()
    objects = progress["objects_listed"]
    print(
        f"  event {number:>2}  {job['state']:<9} {objects:>10,} objects "
        f"{objects / max(elapsed_s, 0.001):>8,.0f} a second {progress['requests']:>5,} requests",
        flush=True,
    )


def _show_shards(lines: Iterable[str], known: Mapping[str, str]) -> Mapping[str, str]:
    """Shows the shards of a manifest, and which were `known` before; returns them all."""
    shards = _document(lines)["shards"]
    for shard in shards:
        digest, last = shard["digest"], base64.b64decode(shard["max_path"]).decode()
        mark = "" if not known else "reused  " if digest in known else "new     "
        print(f"  {digest[:SHARD_DIGITS]}  {shard['rows']:>6,} objects  {mark}up to {_short(last)}")
    return {shard["digest"]: shard["max_path"] for shard in shards}


def _short(path: str) -> str:
    return path if len(path) <= PATH_WIDTH else f"{path[: PATH_WIDTH - 1]}…"


def _show_json(value: Any) -> None:
    """Shows JSON, members that fit on a line of their own, and what does not fit indented."""
    print("\n".join(_laid_out(value, "")), flush=True)


def _laid_out(value: Any, indent: str, before: str = "", after: str = "") -> Iterator[str]:
    line = f"{indent}{before}{json.dumps(value, ensure_ascii=False)}{after}"
    if not isinstance(value, (dict, list)) or len(line) <= JSON_WIDTH:
        yield line
        return
    is_object = isinstance(value, dict)
    opening, closing = "{}" if is_object else "[]"
    yield f"{indent}{before}{opening}"
    named = value.items() if isinstance(value, dict) else ((None, member) for member in value)
    members = [("" if name is None else f'"{name}": ', member) for name, member in named]
    for number, (name, member) in enumerate(members, start=1):
        yield from _laid_out(member, f"{indent}  ", name, "," if number < len(members) else "")
    yield f"{indent}{closing}{after}"


def _head(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{text}{plain}", flush=True)


# --- commands ------------------------------------------------------------------------------------


def _write_to_memory(environment: Mapping[str, str]) -> None:
    """Lets temporary folders be in memory where there is room, and nobody wants another place.

    On a disk, MinIO takes twice as long for the objects, and removing them takes as long again.
    """
    with contextlib.suppress(OSError):
        has_room = shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN
        if has_room and os.access(MEMORY, os.W_OK) and not environment.get("TMPDIR"):
            tempfile.tempdir = MEMORY


def _use(environment: MutableMapping[str, str], server: S3Server) -> None:
    """Lets this process and its commands see this server, and nothing that the user has set."""
    for name in [name for name in environment if name.startswith(("AWS_", "INDEXER_"))]:
        del environment[name]
    environment.update(server.environment())
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "NETRC"):
        environment[name] = os.devnull
    scripts = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join(filter(None, [scripts, environment.get("PATH")]))
    if paths := environment.get("PYTHONPATH"):  # the daemon's current folder is another one
        absolute = (str(Path(path).absolute()) for path in paths.split(os.pathsep))
        environment["PYTHONPATH"] = os.pathsep.join(absolute)


def _use_folder(environment: MutableMapping[str, str], folder: Path) -> None:
    """Lets this process and its commands keep what they make, and look for settings, here."""
    settings, curl_settings = folder / "indexer.toml", folder / ".curlrc"
    settings.touch()
    curl_settings.touch()
    environment["INDEXER_DATA"] = str(folder / "data")
    environment["INDEXER_CONFIG"] = str(settings)
    environment["CURL_HOME"] = str(folder)


def _export(name: str, value: str) -> None:
    """Sets a variable for the commands that follow."""
    print(f"\n  $ export {name}={shlex.quote(value)}")
    os.environ[name] = value


def _command(line: str) -> None:
    """Runs a command as a user would. Raises `DemoError` when it fails."""
    print(f"\n  $ {line}", flush=True)
    # Its output goes to where this goes, so that a terminal sees the progress bar.
    process = subprocess.Popen(_words(line), stdin=subprocess.DEVNULL)
    with _ended(process):
        try:
            code = process.wait(COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise _too_long() from None
    if code:
        raise DemoError(f"That ended with exit code {code}.")


def _curl(
    url: str, *, options: str = "-s", body: str | None = None, note: str | None = None
) -> Iterator[str]:
    """The lines that curl prints of an answer, each as soon as it comes.

    Where there is no curl, Python sends the request. A `note` says which part of the answer is
    shown. Raises `DemoError` when it fails.
    """
    line = f"curl {options} {shlex.quote(url)}"
    if body is not None:
        line += f" \\\n      -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    print(f"\n  $ {line}", flush=True)
    deadline_s = time.monotonic() + COMMAND_TIMEOUT_S
    if note is not None:
        print(f"  ({note})", flush=True)
    if shutil.which("curl") is None:
        print("  (there is no curl on PATH: Python sends the same request)", flush=True)
        yield from _answer_lines(url, body, deadline_s)
        return
    process = subprocess.Popen(_words(line), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    with process, _ended(process):
        yield from _output_lines(process, deadline_s)
        if code := process.wait(STOP_TIMEOUT_S):
            raise DemoError(f"That ended with exit code {code}.")


def _output_lines(process: subprocess.Popen[bytes], deadline_s: float) -> Iterator[str]:
    assert process.stdout is not None
    waiting = b""
    while True:
        left_s = deadline_s - time.monotonic()
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, left_s))
        if not readable:
            raise _too_long()
        data = os.read(process.stdout.fileno(), 65_536)
        *lines, waiting = (waiting + data).split(b"\n")
        yield from (line.decode() for line in lines)
        if not data:
            yield waiting.decode()
            return


def _answer_lines(url: str, body: str | None, deadline_s: float) -> Iterator[str]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=COMMAND_TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            method = "GET" if body is None else "POST"
            target = f"{address.path}?{address.query}" if address.query else address.path
            connection.request(method, target, body, headers)
            for line in connection.getresponse():
                if time.monotonic() > deadline_s:
                    raise _too_long()
                yield line.decode().rstrip("\n")
        except (OSError, http.client.HTTPException) as error:
            raise DemoError(f"{url} did not answer: {error}") from error


def _document(lines: Iterable[str]) -> Any:
    """The JSON document that was printed."""
    text = "\n".join(lines)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DemoError(f"That is no JSON ({error}): {text[:200]}") from error


def _words(line: str) -> list[str]:
    """The words of a command line, the first one as its program."""
    program, *arguments = shlex.split(line.replace("\\\n", ""))
    found = shutil.which(program)
    if found is None:
        raise DemoError(f"There is no {program} beside {sys.executable}; `make install` puts it.")
    return [found, *arguments]


def _too_long() -> DemoError:
    return DemoError(f"That took more than {COMMAND_TIMEOUT_S:.0f} s.")


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leaves no process behind, whatever happens in the block."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# --- the daemon ----------------------------------------------------------------------------------


@contextmanager
def _daemon(environment: MutableMapping[str, str]) -> Iterator[str]:
    """The URL of a daemon, which ends with the block, and with this process in any case.

    What it keeps is in a temporary folder, which ends with it: the keeper that ends S3 servers
    does the same for the daemon.
    """
    _head("A daemon, which makes snapshots and answers over HTTP")
    print(f"\n  $ {SERVE} &", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="bucket-indexer-demo-"))
    try:
        _use_folder(environment, folder)
        with subprocess.Popen(
            processes.keeper_command(_words(SERVE), folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process, which ends it in its turn
        ) as keeper:
            try:
                said = _first_words(keeper, folder / processes.LOG)
                print("\n".join(said), flush=True)
                yield said[0]
            finally:
                _stop(keeper)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _first_words(keeper: subprocess.Popen[bytes], log: Path) -> Sequence[str]:
    """What a daemon says when it listens: its URL on standard output, and a line beside it."""
    deadline_s = time.monotonic() + DAEMON_START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        has_ended = keeper.poll() is not None
        if has_ended:
            assert keeper.stdout is not None
            raise DemoError(f"That ended at once.\n{keeper.stdout.read().decode()}")
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        if len(lines) > 1 and lines[-1].endswith("\n"):
            return [line.rstrip("\n") for line in lines]
        time.sleep(DAEMON_START_POLL_S)
    raise DemoError(f"It did not listen within {DAEMON_START_TIMEOUT_S:.0f} s.")


def _stop(keeper: subprocess.Popen[bytes]) -> None:
    keeper.terminate()
    try:
        keeper.wait(processes.KEEPER_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(keeper.pid, signal.SIGKILL)  # the daemon is in its group


# --- objects -------------------------------------------------------------------------------------


def _keys(count: int) -> list[bytes]:
    from indexer.testing.keysets import keys

    sixteenths = sum(SHARES.values())
    found = [
        key
        for shape, share in SHARES.items()
        for key in keys(shape, count * share // sixteenths, SEED)
    ]
    return sorted(found)


def _by_top_folder(keys: Sequence[bytes]) -> Mapping[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for key in keys:
        folder, slash, _ = key.partition(b"/")
        found.setdefault(folder + slash if slash else b"", []).append(key)
    return found


async def _load(client: Any, keys: Sequence[bytes], *, unpacks: bool) -> None:
    from indexer.testing.buckets import fill

    await client.create_bucket(Bucket=BUCKET)
    await fill(client, BUCKET, keys, unpacks=unpacks)


async def _change(client: Any, keys: Sequence[bytes]) -> None:
    from indexer.testing.buckets import fill

    folder = CHANGED_FOLDER.encode()
    below = [key for key in keys if key.startswith(folder)]
    deleted, overwritten = below[:CHANGES], below[CHANGES : 2 * CHANGES]
    added = [folder + b"again_%06d.bin" % number for number in range(CHANGES)]
    assert len(deleted) == len(overwritten) == CHANGES
    objects = [{"Key": key.decode()} for key in deleted]
    await client.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})
    await fill(client, BUCKET, [*overwritten, *added], salt="changed")


def _with_client(use: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    from aiobotocore.session import get_session

    async def run() -> None:
        async with get_session().create_client("s3") as client:
            await use(client)

    asyncio.run(run())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo",
        description="Snapshots a bucket of a real S3 server three times, and clears up.",
    )
    parser.add_argument("--keep", action="store_true", help="stay up until Ctrl-C")
    parser.add_argument("--kind", choices=["auto", "minio", "moto"], default="auto")
    parser.add_argument(
        "--objects",
        type=_count,
        metavar="N",
        help="how many, 2,000 or more (default: 20,000; on moto 2,000)",
    )
    return parser


def _count(text: str) -> int:
    """Fewer would leave too few in the folder that is changed."""
    least = min(OBJECTS.values())
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of {least:,} or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
