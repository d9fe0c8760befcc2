"""Locked: the process that one query is answered in. It can open nothing.

Invariants
  * Before any SQL is read, DuckDB's way to files, networks, extensions and Python's variables is
    shut and its configuration locked, and the operating system is told that this process opens no
    file and no socket any more, writes none, and has bounded memory and time.
  * SQL is one SELECT, as DuckDB itself says of it.
  * Rows come from the process that started this one, by its pipe; those of a shard are verified
    here, before DuckDB has them, and those of a table are parsed here, out of its reach.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
import pyarrow.json
import pyarrow.parquet

from indexer.artifact.query.columns import RAW_SCHEMA, entries_sql, quoted_name
from indexer.artifact.query.encoded import encoded, with_plain_sums
from indexer.artifact.query.media import ROW, links_of, media_sql, names_of, split_address
from indexer.artifact.query.messages import (
    EXIT_LATE,
    Bounds,
    Need,
    Outcome,
    TableStates,
    Task,
    read_frame,
)
from indexer.artifact.query.named import named_tables
from indexer.artifact.query.pipe import Entries, Wire
from indexer.artifact.query.table_changes import column_changes, compare_sql, matched_key
from indexer.artifact.query.tables import (
    format_of,
    format_sql,
    joined_parts,
    read_table,
    with_own_names,
)
from indexer.errors import IndexerError, NotFound, QueryLimitExceeded, QueryRefused
from indexer.limits import (
    ANSWER_BYTES_MAX,
    MIB,
    QUERY_BATCH_ROWS,
    QUERY_MEMORY_SLACK_BYTES,
    QUERY_MEMORY_TIMES,
    QUERY_STOP_S,
    QUERY_THREADS,
    TABLES_PER_QUERY_MAX,
)
from indexer.texts import path_bytes

CONFIGURATION: Final = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "python_scan_all_frames": "false",
    "temp_directory": "",
    "max_temp_directory_size": "0 bytes",
    "threads": str(QUERY_THREADS),
}

_OWN_SCHEMAS: Final = ("information_schema", "pg_catalog")
"""DuckDB's own, which say what there is in here."""

UNFIT_OPTIMIZERS: Final = frozenset({"partial_aggregate_pushdown"})
"""It groups entries by path, all of them, before they are joined with a table, as it knows nothing
of how many different paths there are."""

SELECT: Final = "SELECT"


def main() -> None:
    """Answers the task that comes on standard input, on standard output."""
    wire = Wire(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", 0))
    nothing = os.open(os.devnull, os.O_RDWR)
    for taken in (0, 1):
        os.dup2(nothing, taken)
    try:
        task, _ = read_frame(wire.incoming, Task, 0)
        try:
            result = Query(task, wire).answer()
        except IndexerError as error:
            wire.finish(Outcome(error.kind, str(error)))
        except MemoryError:
            wire.finish(Outcome(QueryLimitExceeded.kind, _too_much_memory(task.bounds)))
        else:
            wire.finish(Outcome(), result)
    except (EOFError, BrokenPipeError):
        os._exit(1)  # nobody waits for an answer
    # Threads that read ahead may still wait for the pipe.
    os._exit(0)


class Query:
    """One task, and the DuckDB that answers it."""

    def __init__(self, task: Task, wire: Wire) -> None:
        self._task = task
        self._wire = wire
        self._is_late = False
        self._hidden = 0
        self._tables = 0
        self._names: set[tuple[str, str]] = set()
        memory = f"{task.bounds.memory_bytes // MIB}MiB"
        self._database = duckdb.connect(
            ":memory:", config={**CONFIGURATION, "memory_limit": memory}
        )
        self._database.execute("SET TimeZone = 'UTC'")
        self._leave_out_optimizers()
        self._readers = ThreadPoolExecutor(QUERY_THREADS)
        self._entries = [
            Entries(number, view, wire, self._readers) for number, view in enumerate(task.views)
        ]

    def answer(self) -> bytes:
        """The result's bytes. Raises `QueryRefused`, `QueryLimitExceeded` and what reading does."""
        self.open_and_lock()
        clock = self._start_clock()
        try:
            if isinstance(self._task.what, str):
                result = self.select(self._task.what)
            else:
                result = self.compare(self._task.what)
            data = encoded(result, self._task.format)
            if len(data) > ANSWER_BYTES_MAX:
                raise _too_large(self._task.bounds)
            return data
        finally:
            clock.cancel()

    def open_and_lock(self) -> None:
        """Makes what SQL sees, and shuts everything else, for good."""
        self._open_views()
        self._warm_up()
        self._database.execute("SET lock_configuration = true")
        lock_process(self._task.bounds)

    def select(self, sql: str) -> pa.Table:
        """The rows of one SELECT. Raises `QueryRefused` for anything else."""
        with self._translated():
            statements = self._database.extract_statements(sql)
            kinds = [kind_of(statement) for statement in statements]
            if kinds != [SELECT]:
                raise QueryRefused(
                    f"a query is one SELECT, and this is {', '.join(kinds) or 'nothing'}. Nothing "
                    f"was done."
                )
            self._open_tables(sql)
            return self._collect(statements[0])

    def compare(self, wanted: TableStates) -> pa.Table:
        """What changed of a table between the first two views."""
        with self._translated():
            return self._compare(wanted)

    def _leave_out_optimizers(self) -> None:
        known = self._database.execute("SELECT name FROM duckdb_optimizers()").fetchall()
        left_out = ",".join(sorted(UNFIT_OPTIMIZERS & {name for (name,) in known}))
        self._database.execute(f"SET disabled_optimizers = '{left_out}'")

    # --- what SQL sees

    def _open_views(self) -> None:
        for number, (view, entries) in enumerate(zip(self._task.views, self._entries, strict=True)):
            self._database.register(f"__stream_{number}", entries)
            self._database.execute(raw_sql(f"__raw_{number}", f"__stream_{number}", view.rows))
            schema = quoted_name(view.name or "main")
            if view.name:
                self._database.execute(f"CREATE SCHEMA {schema}")
            select = entries_sql(f"__raw_{number}", entries.sources, view.ref)
            self._database.execute(f"CREATE VIEW {schema}.entries AS {select}")
            self._database.execute(
                f"CREATE VIEW {schema}.tables AS SELECT * FROM (SELECT path, "  # noqa: S608
                f"{format_sql('path')} AS format, size, uri, version, reference "
                f"FROM {schema}.entries) WHERE format IS NOT NULL"
            )
            self._names |= {(view.name, "entries"), (view.name, "tables")}

    def _warm_up(self) -> None:
        """Lets libraries load what they load late, while files can still be opened."""
        rows = pa.table({"text": ["a"], "moment": pa.array([0], pa.timestamp("ms", tz="UTC"))})
        self._database.register("__warm", rows)
        found = self._database.sql("SELECT * FROM __warm").to_arrow_table()
        encoded(found, "arrow")
        encoded(found, "json")
        for data, path in ((b"a\n1\n", "a.csv"), (b'{"a":1}\n', "a.jsonl")):
            read_table(data, path)
        sink = pa.BufferOutputStream()
        pa.parquet.write_table(rows, sink)
        read_table(sink.getvalue().to_pybytes(), "a.parquet")
        self._readers.submit(pc.sum, pa.array([1])).result()
        self._database.unregister("__warm")

    def _open_tables(self, sql: str) -> None:
        """Reads those tables that a statement names."""
        ((tree,),) = self._database.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
        named = named_tables(tree)
        ((internal,),) = self._database.execute(
            "SELECT list(lower(view_name)) FROM duckdb_views() WHERE internal"
        ).fetchall()
        views = {view.name.lower(): number for number, view in enumerate(self._task.views)}
        for schema, name in sorted(named.tables):
            number = views.get("" if schema == "main" else schema.lower())
            if number is None and schema.lower() not in _OWN_SCHEMAS:
                raise QueryRefused(
                    f"no version is named {schema!r} here; name one with --with {schema}=REF."
                )
            is_internal = not schema and name.lower() in internal
            if number is None or name.lower() in {"entries", "tables"} or is_internal:
                continue
            try:
                self._open_table(number, name)
            except NotFound:
                if schema or name.lower() not in named.expressions:
                    raise

    def _open_table(self, number: int, address: str) -> None:
        schema = self._task.views[number].name
        target = f"{quoted_name(schema or 'main')}.{quoted_name(address)}"
        split = split_address(address)
        try:
            table = self._read_table(number, address)
        except NotFound:
            if split is None:
                raise
            select = self._media(number, address, *split)
        else:
            hidden = self._hide(table)
            select = f"SELECT * FROM {quoted_name(hidden)}"  # noqa: S608 - a name of our own
        if (schema.lower(), address.lower()) in self._names:
            raise QueryRefused(
                f"{address!r} and another name in this query differ by case alone, which SQL does "
                f"not tell apart; ask for one of them."
            )
        self._names.add((schema.lower(), address.lower()))
        self._database.execute(f"CREATE VIEW {target} AS {select}")

    def _media(self, number: int, address: str, path: str, column: str, view: str) -> str:
        """The rows of a table with the entries that one of its columns names."""
        target = number
        if view:
            named = [one.name.lower() for one in self._task.views]
            if view.lower() not in named:
                raise QueryRefused(f"{address!r}: no version is named {view!r} here.")
            target = named.index(view.lower())
        table = self._read_table(number, path)
        folder = path.rpartition("/")[0]
        links, has_uris = links_of(
            names_of(table, column, address), folder, self._entries[target].sources
        )
        numbered = table.append_column(ROW, pa.array(range(table.num_rows), pa.int64()))
        entries = f"{quoted_name(self._task.views[target].name or 'main')}.entries"
        return media_sql(self._hide(numbered), self._hide(links), entries, has_uris=has_uris)

    def _read_table(self, number: int, path: str) -> pa.Table:
        self._tables += 1
        if self._tables > TABLES_PER_QUERY_MAX:
            raise QueryRefused(
                f"the query names more than {TABLES_PER_QUERY_MAX} tables; ask in several."
            )
        data = self._wire.ask(Need(number, table=path_bytes(path)))
        if format_of(path) != "wandb-joined-table":
            return read_table(data, path)
        first, second, keys = joined_parts(data, path)
        left, right = self._read_table(number, first), self._read_table(number, second)
        names = [
            self._hide(one.rename_columns([f"{side}.{name}" for name in one.column_names]))
            for side, one in ((1, left), (2, right))
        ]
        on = [quoted_name(f"{side}.{key}") for side, key in zip((1, 2), keys, strict=True)]
        joined = self._database.sql(
            f"SELECT * FROM {quoted_name(names[0])} l JOIN {quoted_name(names[1])} r "  # noqa: S608
            f"ON l.{on[0]} = r.{on[1]}"
        ).to_arrow_table()
        return with_own_names(
            joined.rename_columns([name.partition(".")[2] for name in joined.column_names])
        )

    def _hide(self, table: pa.Table) -> str:
        self._hidden += 1
        name = f"__table_{self._hidden}"
        self._database.register(name, table)
        return name

    # --- what is asked

    def _compare(self, wanted: TableStates) -> pa.Table:
        before, after = (self._read_table(number, wanted.path) for number in (0, 1))
        columns = before.column_names, after.column_names
        key = matched_key(wanted.key, *columns, wanted.path)
        changes = column_changes(before.schema, after.schema)
        differ = {str(one["column"]) for one in changes}
        sql = compare_sql(
            quoted_name(self._hide(before)), quoted_name(self._hide(after)), columns, key, differ
        )
        found = self._collect(sql)
        return found.replace_schema_metadata({"column_changes": msgspec.json.encode(changes)})

    def _collect(self, statement: Any) -> pa.Table:
        bounds = self._task.bounds
        reader = self._database.sql(statement).to_arrow_reader(QUERY_BATCH_ROWS)
        batches, rows, size_bytes = [], 0, 0
        for batch in reader:
            rows += batch.num_rows
            size_bytes += batch.get_total_buffer_size()
            if rows > bounds.rows:
                raise QueryLimitExceeded(
                    f"the result has more than {bounds.rows:,} rows: ask for fewer with LIMIT, or "
                    f"raise --query-rows."
                )
            if size_bytes > bounds.result_bytes:
                raise _too_large(bounds)
            batches.append(batch)
        return with_own_names(with_plain_sums(pa.Table.from_batches(batches, reader.schema)))

    def _start_clock(self) -> threading.Timer:
        """Interrupts DuckDB when the time is up, and ends the process where that is not enough."""

        def stop() -> None:
            self._is_late = True
            self._database.interrupt()
            time.sleep(QUERY_STOP_S)
            os._exit(EXIT_LATE)

        clock = threading.Timer(self._task.bounds.timeout_s, stop)
        clock.daemon = True
        clock.start()
        return clock

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raises DuckDB's errors as our own."""
        try:
            yield
        except duckdb.Error as error:
            raise self._said(error) from error

    def _said(self, error: duckdb.Error) -> IndexerError:
        """What DuckDB's error means here, in its first sentence."""
        if self._wire.failure is not None:
            return self._wire.failure
        bounds = self._task.bounds
        if self._is_late or isinstance(error, duckdb.InterruptException):
            return QueryLimitExceeded(
                f"the query took more than {bounds.timeout_s:g} s: ask for less, as by --prefix, "
                f"or raise --query-timeout-s."
            )
        if isinstance(error, duckdb.OutOfMemoryException):
            return QueryLimitExceeded(_too_much_memory(bounds))
        said = " ".join(str(error).partition("\n\nLINE ")[0].split())
        return QueryRefused(f"DuckDB refuses this query: {said[:500]}")


def _too_large(bounds: Bounds) -> QueryLimitExceeded:
    return QueryLimitExceeded(
        f"the result has more than {bounds.result_bytes // MIB} MiB: ask for fewer rows or columns."
    )


def _too_much_memory(bounds: Bounds) -> str:
    return (
        f"the query takes more than {bounds.memory_bytes // MIB:,} MiB of memory: group or sort "
        f"less at once, or raise --query-memory-mib."
    )


def raw_sql(name: str, stream: str, rows: int) -> str:
    """A view of a stream that DuckDB takes for as long as it is.

    Of a stream it would think that it has one row, and keep all of it in memory for a join with a
    table of ten thousand. No row of the second part is one; only its length is looked at.
    """
    nothing = ", ".join("NULL" for _ in RAW_SCHEMA)
    return (
        f"CREATE VIEW {name} AS SELECT * FROM {stream} UNION ALL SELECT {nothing} "  # noqa: S608
        f"FROM range({rows}) WHERE random() < -1"
    )


def kind_of(statement: Any) -> str:
    """What a statement is, as DuckDB says."""
    try:
        return str(statement.type).rpartition(".")[2]
    except ValueError:  # a kind that DuckDB's own library for Python does not know
        return "OTHER"


def lock_process(bounds: Bounds) -> None:
    """Tells the operating system what this process may still have; not on Windows."""
    if sys.platform == "win32":
        return
    import resource

    mapped = _mapped_bytes()
    memory = mapped + QUERY_MEMORY_TIMES * bounds.memory_bytes + QUERY_MEMORY_SLACK_BYTES
    seconds = int(QUERY_THREADS * 2 * (bounds.timeout_s + QUERY_STOP_S)) + 1
    wanted = {
        resource.RLIMIT_NOFILE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: seconds,
    }
    if mapped:
        wanted[resource.RLIMIT_AS] = memory
    for what, most in wanted.items():
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


def _mapped_bytes() -> int:
    """What this process has mapped, 0 where it is not told as on Linux."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - as light as it gets
            return int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):
        return 0
