"""The command: arguments in, results on standard output, one sentence and an exit code on errors.

Invariants
  * Standard output is data; progress, logs and errors go to standard error.
  * Exit codes: 0 ok, 1 unexpected, 2 usage or configuration, 3 not found, empty or access denied,
    4 more objects than the limit, 5 mismatch, 75 temporary, 130 interrupted.
  * What a command needs is imported by that command, so that help and completion are quick.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Final

import click

from indexer import __version__
from indexer.commands import COMMANDS
from indexer.commands.session import NobodyReads
from indexer.errors import IndexerError

EXIT_UNEXPECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


def main() -> None:
    """Runs the command and exits with its code."""
    if isinstance(sys.stdout, TextIOWrapper):
        # Names and notes are any Unicode, and what reads them may take ASCII alone.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # What a command returns is the code that it left with, if it left early.
        code = cli.main(prog_name="indexer", standalone_mode=False) or 0
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        code = leaving.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = EXIT_USAGE
    except click.UsageError as error:
        asked = error.ctx.command_path if error.ctx else "indexer"
        _say(f"Error: {error.format_message()} See {asked} --help.")
        code = EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        _say("Interrupted; what 'indexer ls' does not show was not recorded.")
        code = EXIT_INTERRUPTED
    except (BrokenPipeError, NobodyReads):
        # Whoever read the output has seen enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except IndexerError as error:
        _say(f"Error: {error}")
        code = error.exit_code
    except Exception as error:
        _say(f"Unexpected error: {error!r}. Run again with --log-level debug to see where.")
        if "debug" in (*sys.argv, os.environ.get("INDEXER_LOG_LEVEL")):
            raise
        code = EXIT_UNEXPECTED
    _leave_nothing_unwritten()
    sys.exit(code)


def _leave_nothing_unwritten() -> None:
    """Forgets what nobody reads any more: Python would end with a code of its own over it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(text: str) -> None:
    from indexer.console import shown
    from indexer.telemetry import without_credentials

    with suppress(OSError):  # where nobody listens, the exit code says it
        sys.stderr.write(shown(without_credentials(text)) + "\n")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="indexer")
def cli() -> None:
    """Reference large object-store prefixes as versioned artifacts, without copying a byte."""


for each in COMMANDS:
    cli.add_command(each)


@cli.command(short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete this command: eval "$(indexer completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "indexer", "_INDEXER_COMPLETE").source())
