"""Shows what the indexer does, on a real S3 server that lives as long as this does.

    make demo                          half a minute, and nothing is left behind
    python -m deploy.demo --keep       the same, and all of it stays up until Ctrl-C

Invariants
  * Each line that begins with `$` is a command that is run exactly as shown, and what follows is
    what that command printed.
  * No setting, credential or data folder of the user's has a part in it or is touched.
  * However it ends, the server, its data and the catalog made here are gone afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deploy.s3_server import S3Server, ServerError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

BUCKET: Final = "demo"
ARTIFACT: Final = "demo/objects"
SNAPSHOT: Final = f"indexer snapshot s3://{BUCKET} --name {ARTIFACT} --max-objects 100000"

OBJECTS: Final = {"minio": 20_000, "moto": 2_000}
"""moto takes objects one by one, some hundred a second."""

SHARES: Final = {"imagenet": 4, "runs": 4, "dates": 4, "unicode": 1, "hex": 3}
"""Key shapes of the bucket, and how many sixteenths of the objects have each."""

SEED: Final = 28
"""Shards end where a hash of the path says so, every 16,384 objects in the mean. Of this seed's
objects there are four shards, and two where there are but 2,000 objects."""

CHANGED_FOLDER: Final = "drive/run_0000/cam_front/"
CHANGES: Final = 40
"""Objects of that folder that are deleted, then written anew, then added."""

COMMAND_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 10.0


def main(arguments: Sequence[str]) -> int:
    """Runs the demo and returns its exit code."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bucket-indexer-demo-") as folder,
            S3Server.start(options.kind) as server,
        ):
            _use(os.environ, server, Path(folder))
            _demonstrate(server, options.objects or OBJECTS[server.kind])
            if options.keep:
                _keep(server)
    except (ServerError, DemoError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the server and its data are gone.", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


class DemoError(Exception):
    """A command of the demo is missing or failed."""


def _demonstrate(server: S3Server, count: int) -> None:
    _head("An S3 server")
    print(f"  {server.kind} {server.version}, from {server.origin}, at {server.endpoint_url}")
    print("  The commands below find it through AWS_ENDPOINT_URL, and keep what they")
    print("  record in a temporary folder, through INDEXER_DATA.")

    _head(f"{count:,} objects in s3://{BUCKET}")
    keys = _keys(count)
    unpacks = server.kind == "minio"
    started_s = time.monotonic()
    _with_client(lambda client: _load(client, keys, unpacks=unpacks))
    elapsed_s = time.monotonic() - started_s
    for below in _by_top_folder(keys).values():
        print(f"  {len(below):>6,} like {below[0].decode()}")
    print(f"  Written in {elapsed_s:.1f} s.")

    _head("A snapshot: no object is read, all of them are referenced")
    _command(SNAPSHOT)

    _head("What was recorded")
    _command("indexer ls demo")
    _command(f"indexer show {ARTIFACT}:v0")
    _command(f"indexer ls {ARTIFACT}:latest --prefix {CHANGED_FOLDER}00000")

    _head(f"Changes in one folder, {CHANGED_FOLDER}")
    _with_client(lambda client: _change(client, keys))
    print(f"  {CHANGES} objects deleted, {CHANGES} written anew, {CHANGES} added.")

    _head("A second snapshot: only shards that changed are written")
    _command(SNAPSHOT)

    _head("A third one, with nothing changed: no version is made")
    _command(SNAPSHOT)

    _head("Both versions are there, and can be named")
    _command(f"indexer alias set {ARTIFACT}:v1 reviewed")
    _command(f"indexer ls {ARTIFACT}")

    _head("Next, on a bucket of your own (source .venv/bin/activate finds the command)")
    print("  indexer doctor s3://BUCKET/PREFIX/")
    print("  indexer snapshot s3://BUCKET/PREFIX/ --name PROJECT/ARTIFACT --max-objects 1000000")
    print("  indexer ls PROJECT/ARTIFACT:latest --json")
    print("  indexer note PROJECT/ARTIFACT:v0 'what is special about it'")
    print("  To try more on this one: .venv/bin/python -m deploy.demo --keep")


# --- commands ------------------------------------------------------------------------------------


def _use(environment: MutableMapping[str, str], server: S3Server, folder: Path) -> None:
    """Lets this process and its commands see this server, and nothing that the user has set."""
    for name in [name for name in environment if name.startswith(("AWS_", "INDEXER_"))]:
        del environment[name]
    environment.update(server.environment())
    environment.update(_own_folders(folder))
    scripts = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join(filter(None, [scripts, environment.get("PATH")]))


def _own_folders(folder: Path) -> Mapping[str, str]:
    settings = folder / "indexer.toml"
    settings.touch()
    return {
        "INDEXER_DATA": str(folder / "data"),
        "INDEXER_CONFIG": str(settings),
        "AWS_CONFIG_FILE": str(folder / "no-aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-aws-credentials"),
    }


def _command(line: str) -> None:
    """Runs a command as a user would. Raises `DemoError` when it fails."""
    print(f"\n  $ {line}", flush=True)
    program, *arguments = shlex.split(line)
    found = shutil.which(program)
    if found is None:
        raise DemoError(f"There is no {program} beside {sys.executable}; `make install` puts it.")
    # Its output goes to where this goes, so that a terminal sees the progress bar.
    process = subprocess.Popen([found, *arguments], stdin=subprocess.DEVNULL)
    with _ended(process):
        try:
            code = process.wait(COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise DemoError(f"That took more than {COMMAND_TIMEOUT_S:.0f} s.") from None
    if code:
        raise DemoError(f"That ended with exit code {code}.")


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


def _keep(server: S3Server) -> None:
    _head("All of it stays up until Ctrl-C")
    print("  In another terminal:")
    names = (*server.environment(), "INDEXER_DATA", "INDEXER_CONFIG")
    for name in names:
        print(f"  export {name}={shlex.quote(os.environ[name])}")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        server.wait()


def _head(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{text}{plain}", flush=True)


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
