"""The commands by subject. Each takes arguments, asks a `Workspace`, and shows what comes of it.

    snapshot    snapshot, artifact put
    browse      ls, show, doctor
    labels      alias, tag, note, describe, metadata
    runs        runs, lineage
    diff        diff
    query       query, table
    download    download
    verify      verify, urls
    retention   ttl, rm, gc, alias protect, alias unprotect
    daemon      serve, jobs

`session` is what every command has: its options, its settings, where it writes. `views` and
`run_views` say what is shown of versions and of runs, as JSON and for people.

Invariants
  * What a command needs is imported by that command, so that help and completion are quick.
"""

from __future__ import annotations

from typing import Final

import click

from indexer.commands.browse import doctor, ls, show
from indexer.commands.daemon import jobs, serve
from indexer.commands.diff import diff
from indexer.commands.download import download
from indexer.commands.labels import alias, describe, metadata, note, tag
from indexer.commands.query import query, table
from indexer.commands.retention import gc, protect, rm, ttl, unprotect
from indexer.commands.runs import lineage, runs
from indexer.commands.snapshot import artifact, snapshot
from indexer.commands.verify import urls, verify

COMMANDS: Final[tuple[click.Command, ...]] = (
    *(snapshot, artifact, ls, show, doctor),
    *(alias, tag, note, describe, metadata),
    *(runs, lineage),
    *(diff, query, table, download, verify, urls),
    *(ttl, rm, gc),
    *(serve, jobs),
)

alias.add_command(protect)
alias.add_command(unprotect)
