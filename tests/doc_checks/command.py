"""Checks of what is said of commands, settings, exit codes and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from indexer import config, errors
from indexer.cli import EXIT_INTERRUPTED, cli
from indexer.stores.s3_endpoint import ENDPOINT_VARIABLES
from indexer.wire.artifacts import (
    AliasDocument,
    ArtifactDocument,
    EntryDocument,
    ProjectDocument,
    TagDocument,
    VersionDocument,
)
from indexer.wire.diff import ChangedFolderDocument, ChangeDocument, DiffSummaryDocument
from indexer.wire.downloads import DownloadDocument
from indexer.wire.jobs import (
    DoctorDocument,
    JobDocument,
    PreviewDocument,
    Progress,
    SnapshotDocument,
    SnapshotOrder,
)
from indexer.wire.retention import GarbageDocument
from indexer.wire.runs import LineageDocument, RunDocument, RunShown
from indexer.wire.verification import (
    EntryLinkDocument,
    FindingDocument,
    ReferencesDocument,
    StructureDocument,
)
from tests.doc_checks.check import Checks, Complaints, differences
from tests.documents import (
    COMMAND,
    HTTP,
    README,
    SETTINGS,
    Block,
    Documents,
    blocks,
    codes,
    section,
    table,
    tables,
)


def commands() -> dict[str, click.Command]:
    """Every command that does something by itself, by its words."""

    def below(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if isinstance(command, click.Group):
            for name, each in command.commands.items():
                yield from below(f"{words} {name}", each)
        if not isinstance(command, click.Group) or command is cli:
            yield words, command

    return dict(below("indexer", cli))


def options_of(command: click.Command) -> list[str]:
    params = [param for param in command.params if isinstance(param, click.Option)]
    return [name for param in params for name in param.opts]


def commands_are_documented(docs: Documents) -> Complaints:
    text = docs[COMMAND]
    headings = re.findall(r"^## (indexer.*)$", text, re.MULTILINE)
    yield from differences("commands", sorted(headings), sorted(commands()))
    for words, command in commands().items():
        body = section(text, words)
        usage = command.get_usage(click.Context(command, info_name=words))
        said = next(iter(blocks(body, "text")), Block("", "", 0)).text
        yield from differences(words, " ".join(said.split()), " ".join(usage.split()[1:]))
        shared = [name.replace("-", " ") for name in re.findall(r"\]\(#(options-[\w-]+)\)", body)]
        rows = list(next(iter(tables(body)), []))
        for heading in re.findall(r"^## (Options .*)$", text, re.MULTILINE):
            if heading.lower() in shared:
                rows += table(text, heading)
        said_options = [name for row in rows for name in re.findall(r"`(--?[a-z-]+)", row[0])]
        true_options = options_of(command) + (["--help", "-h"] if command is cli else [])
        yield from differences(f"options of {words}", sorted(said_options), sorted(true_options))
        for param in command.params:
            choices = param.type.choices if isinstance(param.type, click.Choice) else ()
            row = next((row for row in rows if f"`{param.opts[-1]}" in row[0]), None)
            for choice in choices if row else ():
                if f"`{choice}`" not in " ".join(row or ()):
                    yield f"{words}: {param.opts[-1]} does not say {choice}"


def settings_are_documented(docs: Documents) -> Complaints:
    rows = tables(docs[SETTINGS])[0]
    names = [f"`{setting.name}`" for setting in config.SETTINGS]
    yield from differences("settings", [row[0] for row in rows], names)
    for row, setting in zip(rows, config.SETTINGS, strict=False):
        option = f"--{setting.name.replace('_', '-')}"
        yield from differences(setting.name, row[1:3], [f"`{setting.variable}`", f"`{option}`"])
        yield from differences(f"default of {setting.name}", row[3].strip("`"), default_of(setting))
        if not any(option in options_of(command) for command in commands().values()):
            yield f"{option} is no option"
        bounds = [f"{setting.least:,} to {setting.most:,}"] if setting.most else []
        for said in (*bounds, *(f"`{choice}`" for choice in setting.choices)):
            if said not in row[4]:
                yield f"{setting.name} does not say {said}"
    order = re.findall(r"^\d\. `(\w+)`", docs[SETTINGS], re.MULTILINE)
    yield from differences("endpoints", order[: len(ENDPOINT_VARIABLES)], [*ENDPOINT_VARIABLES])


def default_of(setting: config.Setting) -> str:
    folders = {"data": config.default_data_folder, "cache_folder": config.default_cache_folder}
    if setting.name in folders:
        folder = folders[setting.name]({})
        return "~/" + folder.relative_to(Path.home()).as_posix()
    if setting.default is None:
        return ""
    if setting.name == "port":
        return str(setting.default)
    return f"{setting.default:,}" if type(setting.default) is int else str(setting.default).lower()


def exit_codes_are_right(docs: Documents) -> Complaints:
    rows = table(docs[COMMAND], "Exit codes")
    said = {int(row[0]): set(re.findall(r"`(\w+)`", row[2])) for row in rows}
    true: dict[int, set[str]] = {0: set(), EXIT_INTERRUPTED: set()}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.IndexerError):
            true.setdefault(kind.exit_code, set()).add(kind.__name__)
    yield from differences("exit codes", said, true)
    shorter = table(docs[README], "Exit codes")
    yield from differences("exit codes of the README", shorter, [row[:2] for row in rows])


def fields_are_documented(docs: Documents) -> Complaints:
    """Fields of what is printed and ordered, in the order of the documents."""
    shown = tables(section(docs[COMMAND], "JSON"))
    yield from differences("documents of JSON", len(shown), len(PRINTED))
    for rows, kind in zip(shown, PRINTED, strict=False):
        fields = [name for name in kind.__struct_fields__ if name != "path_base64"]
        if tag := kind.__struct_config__.tag_field:
            fields = [tag, *fields]
        yield from differences(
            kind.__name__, [codes(row[0]) for row in rows], [[f] for f in fields]
        )
    jobs = {row[0]: codes(row[1]) for row in shown[-1]}
    yield from differences("progress", jobs["`progress`"], [*Progress.__struct_fields__])
    ordered = [name for row in table(docs[HTTP], "Orders") for name in codes(row[0])]
    yield from differences("orders", sorted(ordered), sorted(SnapshotOrder.__struct_fields__))


class Listening(msgspec.Struct):
    """What `indexer serve` prints."""

    url: str


PRINTED: tuple[type[msgspec.Struct], ...] = (
    *(SnapshotDocument, PreviewDocument, VersionDocument, EntryDocument),
    *(ChangeDocument, ChangedFolderDocument, DiffSummaryDocument, ProjectDocument),
    *(ArtifactDocument, AliasDocument, TagDocument, RunDocument, RunShown, LineageDocument),
    *(GarbageDocument, DownloadDocument),
    *(FindingDocument, ReferencesDocument, StructureDocument, EntryLinkDocument),
    *(DoctorDocument, Listening, JobDocument),
)
"""What the command prints, in the order of the document."""


CHECKS: Checks = {
    fields_are_documented: [
        (COMMAND, "| `touched` |", "| `touches` |"),
        (COMMAND, "| `left_out` | the first 20 paths that would not |\n", ""),
        (COMMAND, "`checksums_read`, ", ""),
        (HTTP, "| `heads` |", "| `head` |"),
    ],
    commands_are_documented: [
        (COMMAND, "| `--notes TEXT` |", "| notes |"),
        (COMMAND, "## indexer note\n", "## note\n"),
        (COMMAND, "[OPTIONS] REF TEXT", "[OPTIONS] REF"),
        (COMMAND, "| `--json` |", "| `--json`, `--yaml` |"),
        (COMMAND, "`info`, ", ""),
        (COMMAND, "## indexer jobs follow\n", "## indexer jobs watch\n"),
        (COMMAND, "| `--to URL` |", "| to |"),
    ],
    settings_are_documented: [
        (SETTINGS, "| `region` |", "| `area` |"),
        (SETTINGS, "| 64 |", "| 48 |"),
        (SETTINGS, "1 to 1,024", "1 to 1,000"),
        (SETTINGS, "2. `AWS_ENDPOINT_URL_S3`", "2. `AWS_ENDPOINT_URL`"),
        (SETTINGS, "| `8765` |", "| `8080` |"),
    ],
    exit_codes_are_right: [
        (COMMAND, "| 75 |", "| 76 |"),
        (COMMAND, "`CommitConflict`, ", ""),
        (README, "| 4 | more", "| 4 | many more"),
    ],
}
