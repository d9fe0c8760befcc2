"""What every command has: options that are settings, and a session that they make."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from indexer.errors import InvalidSetting

if TYPE_CHECKING:
    from indexer.client import Client
    from indexer.config import Settings
    from indexer.console import Console
    from indexer.records import VersionRecord
    from indexer.workspace import Workspace

Command = TypeVar("Command", bound=Callable[..., Any])


def common(command: Command) -> Command:
    """The options that every command has."""
    for option in reversed(
        (
            click.option("--data", metavar="DIR", help="Folder of the catalog and its shards."),
            click.option("--server", metavar="URL", help="Daemon to work on, not a folder."),
            click.option("--json", "is_json", is_flag=True, help="Write JSON."),
            click.option("-q", "--quiet", "is_quiet", is_flag=True, help="No progress or summary."),
            click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"])),
            click.option("--log-format", type=click.Choice(["console", "json"])),
        )
    ):
        command = option(command)
    return command


def connection(command: Command) -> Command:
    """The options that say how sources are reached; those of S3 as the AWS command names them."""
    for option in reversed(
        (
            click.option("--profile", metavar="P", help="AWS profile."),
            click.option("--region", metavar="R", help="AWS region."),
            click.option("--endpoint-url", metavar="URL", help="S3 endpoint."),
            click.option("--no-sign-request", is_flag=True, default=None, help="As anybody."),
            click.option("--request-payer", type=click.Choice(["requester"])),
            click.option("--user-project", metavar="P", help="Google project that pays."),
            click.option("--symlinks", type=click.Choice(["skip", "inside", "follow"])),
        )
    ):
        command = option(command)
    return command


prefixed = click.option(
    "--prefix", metavar="P", default="", help="Only entries whose paths start with P."
)


def selecting(command: Command) -> Command:
    """The options by which entries are selected."""
    for option in reversed(
        (
            prefixed,
            click.option("--include", multiple=True, metavar="GLOB", help="Only what matches."),
            click.option("--exclude", multiple=True, metavar="GLOB", help="Not what matches."),
        )
    ):
        command = option(command)
    return command


newest = click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    metavar="N",
    help="How many of the newest.  [100]",
)
"""How much a list shows that begins with the newest."""


def query_limits(command: Command) -> Command:
    """The options that say what a query may take."""
    for option in reversed(
        (
            click.option("--query-timeout-s", type=int, metavar="N", help="Most seconds.  [30]"),
            click.option("--query-memory-mib", type=int, metavar="N", help="Most memory.  [1024]"),
            click.option("--query-rows", type=int, metavar="N", help="Most rows.  [1000000]"),
        )
    ):
        command = option(command)
    return command


class NobodyReads(Exception):
    """Standard output was closed by its reader; click would make a failure of that."""


class Session:
    """What a command is run with: its settings, where it writes, and the app it opens."""

    def __init__(self, options: dict[str, Any]) -> None:
        from indexer.runner import leave_pandas_out, use_memory_frugally

        use_memory_frugally()
        leave_pandas_out()
        from indexer.console import Console
        from indexer.places import settings_of

        self.settings: Settings = settings_of(options)
        self.console: Console = Console(options["is_json"], options["is_quiet"])

    def new_logger(self) -> Any:
        """A logger as the settings want it."""
        from indexer.telemetry import new_logger

        return new_logger(self.settings["log_level"], self.settings["log_format"])

    def run(
        self,
        function: Callable[[Workspace], Awaitable[Any]],
        *,
        creates: bool = False,
        to: str | None = None,
    ) -> Any:
        """What an asynchronous function of the workspace comes to.

        Only commands that record something make a data folder that is not there.
        """
        from indexer.places import open_workspace, place_of
        from indexer.runner import collect_garbage_seldom, run_command

        collect_garbage_seldom()
        place = place_of(self.settings)

        async def run() -> Any:
            log = self.new_logger()
            async with open_workspace(place, to=to, log=log, creates=creates) as workspace:
                return await function(workspace)

        return run_command(run())

    def run_on_daemon(self, function: Callable[[Client], Awaitable[Any]]) -> Any:
        """What an asynchronous function of a daemon's client comes to.

        Raises `InvalidSetting` when no daemon is named.
        """
        from indexer.client import connect
        from indexer.runner import run_command

        server = self.settings.server
        if server is None:
            raise InvalidSetting(
                "Jobs are a daemon's: name it with --server or INDEXER_SERVER, as in --server "
                "http://127.0.0.1:8765."
            )

        async def run() -> Any:
            async with connect(server) as client:
                return await function(client)

        return run_command(run())


async def find_version(ref: str, workspace: Workspace) -> VersionRecord:
    """The version that REF names. Raises `InvalidReference`, `NoSuchVersion`."""
    from indexer.references import parse_reference

    return await workspace.version(parse_reference(ref))


def show_version(session: Session, version: VersionRecord) -> None:
    """Shows what is known of a version."""
    from indexer.commands import views
    from indexer.wire.artifacts import VersionDocument

    if session.console.is_json:
        session.console.record(views.document(VersionDocument.of(version)))
    else:
        views.show_version(session.console, version)


def mapping_of(what: str, text: str) -> dict[str, Any]:
    """The JSON object that a user writes, or that is in the file after an @.

    Raises `InvalidSetting`.
    """
    try:
        found = json.loads(Path(text[1:]).read_bytes() if text.startswith("@") else text)
    except OSError as error:
        raise InvalidSetting(
            f"the {what} cannot be read from {text[1:]}: {error.strerror}."
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidSetting(
            f"the {what} is no JSON ({error}): write an object, or @ and the name of a file that "
            f"holds one."
        ) from None
    if not isinstance(found, dict):
        raise InvalidSetting(
            f'the {what} is no JSON object: write one, as in {{"split": "train"}}.'
        )
    return found


def with_session(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command its session in place of the options that are settings."""

    @wraps(command)
    def run(**options: Any) -> None:
        from indexer.config import SETTINGS

        taken = {"is_json", "is_quiet"} | {setting.name for setting in SETTINGS}
        own = {name: value for name, value in options.items() if name not in taken}
        try:
            command(Session(options), **own)
            sys.stdout.flush()
        except BrokenPipeError:
            raise NobodyReads from None

    return run
