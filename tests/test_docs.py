"""The documents against the code: what they say is what there is.

Invariants
  * A check reads all documents and yields complaints. Each is tried on documents into which a
    mistake was planted, so none can pass by looking away.
  * What needs a server is in `integration/test_docs_on_servers.py`: the README's commands among it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from indexer import config, errors, limits
from indexer.catalog.schema import metadata
from indexer.cli import EXIT_INTERRUPTED, cli
from indexer.content import decode_shard, encode_shard
from indexer.daemon import problems
from indexer.daemon.metrics import Metrics
from indexer.daemon.operations import OPERATIONS
from indexer.page import IDENTITY, OBSERVED, SCHEMA, make_page, pack_etags, rows_digest
from indexer.stores.s3_client import ENDPOINT_VARIABLES
from indexer.telemetry import Totals
from indexer.wandb_digest import WandbDigester
from indexer.wire.artifacts import EntryPage
from indexer.wire.jobs import JobDocument
from indexer.wire.problems import Problem, status_of
from tests.documents import (
    COMMAND,
    CONTRIBUTING,
    FORMAT,
    HTTP,
    LISTING,
    README,
    ROOT,
    SETTINGS,
    Block,
    Documents,
    blocks,
    codes,
    documents,
    run_code,
    section,
    table,
    tables,
)
from tests.golden.test_golden import FILES, document_of, page_of
from tests.test_tidy import MACHINE_PATH, REGISTRY

OWN = (README, COMMAND, SETTINGS, HTTP, FORMAT, LISTING, CONTRIBUTING)
MADE_LATER = {ROOT / "benchmarks" / "results.jsonl"}

Complaints = Iterator[str]
Check = Callable[[Documents], Complaints]


# --- checks of all documents ---------------------------------------------------------------------


def differences(what: str, said: object, true: object) -> Complaints:
    if said != true:
        yield f"{what}: {said!r}, and should be {true!r}"


def links_resolve(docs: Documents) -> Complaints:
    for path, text in docs.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            file, _, anchor = target.partition("#")
            if "://" in target:
                continue
            found = (ROOT / path).parent / file if file else ROOT / path
            if not found.exists() and found not in MADE_LATER:
                yield f"{path}: {target} is not there"
            elif anchor:
                there = docs[found.resolve().relative_to(ROOT).as_posix()]
                if anchor not in anchors(there):
                    yield f"{path}: {target} has no such heading"


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def paths_exist(docs: Documents) -> Complaints:
    """Files and tests that are named are there, and so are targets of make."""
    start = re.compile(r"(?:indexer|workers|tests|benchmarks|deploy|docs|\.ci)/[\w./-]*")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in OWN:
        text = docs[path]
        for code in codes(text):
            file, _, test = code.partition("::")
            if start.fullmatch(file) and ROOT / file not in MADE_LATER:
                if not (ROOT / file).exists():
                    yield f"{path}: {file} is not there"
                elif test and f"def {test}(" not in (ROOT / file).read_text():
                    yield f"{path}: there is no test {code}"
        lines = [line for block in blocks(text, "sh") for line in block.text.splitlines()]
        for target in re.findall(r"^make (\w+)", "\n".join([*codes(text), *lines]), re.MULTILINE):
            if target not in targets:
                yield f"{path}: make {target} is no target"


def names_no_place(docs: Documents) -> Complaints:
    for path, text in docs.items():
        for pattern in (MACHINE_PATH, REGISTRY):
            yield from (f"{path}: {match[0]}" for match in pattern.finditer(text))


def data_parses(docs: Documents) -> Complaints:
    for path in OWN:
        for block in blocks(docs[path]):
            try:
                if block.language == "json":
                    json.loads(block.text)
                elif block.language == "python":
                    ast.parse(block.text)
                elif block.language == "toml":
                    for name, value in tomllib.loads(block.text).items():
                        known = {setting.name: setting for setting in config.SETTINGS}
                        known[name].parse(value, path)
            except (ValueError, KeyError, SyntaxError, errors.IndexerError) as error:
                yield f"{path}, line {block.line}: {error!r}"


def code_runs(docs: Documents) -> Complaints:
    """Blocks of Python run, those of one document in order; two documents need a server."""
    for path in OWN:
        if path not in {README, HTTP}:
            try:
                run_code(docs[path])
            except Exception as error:  # noqa: BLE001 - whatever it is, the document is wrong
                yield f"{path}: {error!r}"


def options_are_known(docs: Documents) -> Complaints:
    """Whatever looks like an option or variable of ours is one."""
    known = {name for command in commands().values() for name in options_of(command)}
    known |= {"--help", "-h", "--quick"}
    variables = {setting.variable for setting in config.SETTINGS} | {"INDEXER_CONFIG"}
    for path in OWN:
        text = docs[path]
        lines = [line for block in blocks(text) for line in block.text.splitlines()]
        said = [*codes(text), *(line for line in lines if line.startswith("indexer "))]
        for code in said:
            for name in re.findall(r"(?<!\S)--?[a-z][a-z-]*", code):
                if code.startswith(("-", "indexer")) and name not in known:
                    yield f"{path}: {name} is no option"
        for name in re.findall(r"\bINDEXER_\w+", text):
            if name not in variables:
                yield f"{path}: {name} is no variable"


# --- checks of commands, settings and errors -----------------------------------------------------


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
    if setting.name == "data":
        folder = config.default_data_folder({})
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


def limits_are_right(docs: Documents) -> Complaints:
    for path, heading, wanted in (
        (LISTING, "How many requests at once", set[str]()),
        (HTTP, "Limits", limits_of_the_daemon() - {"MIB", "LAG_INTERVAL_S"}),
    ):
        rows = table(docs[path], heading)
        for name, value, _ in rows:
            number, _, unit = value.partition(" ")
            amount = float(number.replace(",", "")) * {"KiB": 1024, "MiB": 1024**2}.get(unit, 1)
            bound = getattr(limits, name.strip("`"), None)
            yield from differences(f"{path}: {name}", amount, bound)
        missing = wanted - {name.strip("`") for name, _, _ in rows}
        if missing or not rows:
            yield f"{path}: limits are missing: {missing}"


def limits_of_the_daemon() -> set[str]:
    """The bounds that the daemon's own modules and its service know."""
    paths = [*(ROOT / "indexer" / "daemon").rglob("*.py"), ROOT / "indexer" / "service.py"]
    return {
        alias.name
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "indexer.limits"
        for alias in node.names
    }


def the_map_is_whole(docs: Documents) -> Complaints:
    text = docs[CONTRIBUTING]
    mapped = re.findall(r"`indexer/(\w+)(?:\.py|/)`", section(text, "Where things are"))
    names = {path.stem for path in (ROOT / "indexer").iterdir() if path.suffix in ("", ".py")}
    there = names - {"__pycache__"}
    yield from differences("modules", sorted(set(mapped)), sorted(there))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    kept = [[n for n in re.findall(r"\w+", layer) if n in there] for layer in layers]
    lines = blocks(section(text, "Where things are"), "text")[0].text.splitlines()
    said = [re.findall(r"\w+", line) for line in lines]
    yield from differences("layers", said, [layer for layer in kept if layer])


# --- checks of the daemon ------------------------------------------------------------------------


def operations_are_documented(docs: Documents) -> Complaints:
    rows = table(docs[HTTP], "What can be asked")
    said = [(row[0], row[1].strip("`"), row[2]) for row in rows]
    true = [(each.method, each.path, ", ".join(map(str, each.answers))) for each in OPERATIONS]
    yield from differences("operations", sorted(said), sorted(true))


def problems_are_documented(docs: Documents) -> Complaints:
    rows = table(docs[HTTP], "Problems")
    said = [(row[0].strip("`"), int(row[1]), row[2]) for row in rows]
    yield from differences("problems", sorted(said), sorted(set(all_problems())))
    yield from (f"{row[0]} does not say what to do" for row in rows if not row[3])


def all_problems() -> Iterator[tuple[str, int, str]]:
    """Code, status, and whether to try again, of whatever the daemon may answer with."""
    found = [*vars(errors).values(), *vars(problems).values()]
    kinds = [kind for kind in found if inspect.isclass(kind)]
    for kind in kinds:
        if issubclass(kind, errors.IndexerError) and "kind" in vars(kind):
            own = kind.status if issubclass(kind, problems.HttpProblem) else None
            status = own or status_of(errors.error_of(kind.kind, ""))
            yield kind.kind, status, "yes" if kind.is_retryable else ""


def metrics_are_documented(docs: Documents) -> Complaints:
    rows = table(docs[HTTP], "Metrics")
    said = [(row[0].strip("`"), row[1], codes(row[2])) for row in rows]
    yield from differences("metrics", sorted(said), sorted(all_metrics()))


def all_metrics() -> Iterator[tuple[str, str, list[str]]]:
    """Name, type and labels of whatever a daemon counts that has counted one of each."""
    totals = Totals()
    totals.counters.answered("list", "ok", 0.1)
    totals.ended("succeeded", 1.0)
    service: Any = SimpleNamespace(totals=totals, running=[], waiting=0)
    metrics = Metrics(service)
    metrics.answered("get_job", 200, 0.1)
    for family in text_string_to_metric_families(metrics.text().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if not name.endswith("_created"):
            yield name, family.type, sorted(labels)


def documents_are_shown_right(docs: Documents) -> Complaints:
    kinds: list[Any] = [JobDocument, EntryPage, Problem]
    shown = blocks(docs[HTTP], "json")
    yield from differences("documents of JSON", len(shown), len(kinds))
    for block, kind in zip(shown, kinds, strict=False):
        try:
            read = msgspec.json.decode(block.text, type=kind)
        except msgspec.ValidationError as error:
            yield f"{HTTP}, line {block.line}: {error}"
            continue
        if isinstance(read, Problem):
            read = Problem.of(read.error(), request_id=read.request_id)
        true = json.loads(msgspec.json.encode(read))
        yield from differences(f"{HTTP}, line {block.line}", json.loads(block.text), true)


# --- checks of the format ------------------------------------------------------------------------


def example(docs: Documents) -> pa.Table:
    """The entries of the example, as a table."""
    rows = tables(section(docs[FORMAT], "The digest of rows"))[0]
    columns = {
        "path": pa.array([row[0].strip("`").encode() for row in rows], pa.binary()),
        "size": pa.array([int(row[1]) for row in rows], pa.int64()),
        **pack_etags([row[2].strip("`").encode() for row in rows]),
    }
    return pa.Table.from_batches([make_page(columns)])


def columns_are_right(docs: Documents) -> Complaints:
    text = docs[FORMAT]
    rows = table(text, "Entries")
    yield from differences("columns", [row[1].strip("`") for row in rows], SCHEMA.names)
    tags = [str(tag) for tag in range(len(IDENTITY))]
    yield from differences("tags", [row[0] for row in rows], tags + [""] * len(OBSERVED))
    written = pq.ParquetFile(pa.BufferReader(encode_shard(example(docs)))).schema
    true = [
        (
            f"`{column.name}`",
            column.physical_type,
            logical_type(str(column.logical_type)),
            "optional" if column.max_definition_level else "required",
        )
        for column in written
    ]
    yield from differences("Parquet", [(*row,) for row in table(text, "Files of shards")], true)
    said = {row[0]: codes(row[1]) for row in tables(section(text, "The data folder"))[1]}
    known = {f"`{name}`": [c.name for c in each.columns] for name, each in metadata.tables.items()}
    yield from differences("tables of the catalog", said, known)


def logical_type(words: str) -> str:
    for start, name in (
        ("String", "String"),
        ("Int(bitWidth=32, isSigned=false)", "Int, 32 bits, unsigned"),
        ("Timestamp(isAdjustedToUTC=true, timeUnit=milliseconds", "Timestamp, milliseconds, UTC"),
    ):
        if words.startswith(start):
            return name
    return {"None": ""}.get(words, words)


def etags_are_packed_so(docs: Documents) -> Complaints:
    for etag, *said in table(docs[FORMAT], "ETags"):
        packed = pack_etags([etag.strip("`").encode()])
        values = [packed[name][0].as_py() if name in packed else None for name in PACKED]
        true = [v.hex() if isinstance(v, bytes) else "" if v is None else str(v) for v in values]
        yield from differences(etag, [cell.strip("`") for cell in said], true)


PACKED = ("etag_md5", "etag_parts", "etag_raw")


def digests_are_right(docs: Documents) -> Complaints:
    text, rows = docs[FORMAT], example(docs)
    dump = blocks(section(text, "The digest of rows"), "text")[0].text
    hashed = bytes.fromhex(re.sub(r"#.*", "", dump))
    (said,) = re.findall(r"The digest: `(\w+)`", text)
    yield from differences("bytes that are hashed", hashlib.sha256(hashed).hexdigest(), said)
    yield from differences("digest of rows", said, rows_digest(rows))
    root = blocks(section(text, "The root"), "json")[0].text.strip().encode()
    names = run_code(text)
    yield from differences(
        "root", root, names["root_of"]([("", "s3://bucket/data/")], rows.to_pylist())
    )
    (digest,) = re.findall(r"^`(sha256:\w+)`$", text, re.MULTILINE)
    yield from differences("digest", digest, "sha256:" + hashlib.sha256(root).hexdigest())
    for path, value, ends in table(text, "Where shards end"):
        true = names["xxh3_64_intdigest"](path.strip("`").encode())
        yield from differences(path, value, f"`{true:016x}`")
        yield from differences(f"cut after {path}", ends, "no" if true % 2**14 else "yes")


def wandb_digest_is_right(docs: Documents) -> Complaints:
    text = section(docs[FORMAT], "The W&B digest")
    digester = WandbDigester()
    digester.add(example(docs))
    (said,) = re.findall(r"The W&B digest: `(\w+)`", text)
    yield from differences("digest", said, digester.finish().digest)
    hashed = hashlib.md5(blocks(text, "text")[0].text.encode(), usedforsecurity=False)
    yield from differences("bytes that are hashed", hashed.hexdigest(), said)
    refused = [path.encode() for row in tables(text)[0] for path in codes(row[0])]
    for path in (*refused, b"", b"\xff"):
        if wandb_reason(path) is None:
            yield f"{path!r} is not refused"


def wandb_reason(path: bytes) -> str | None:
    columns = {"path": pa.array([path], pa.binary()), "size": pa.array([1], pa.int64())}
    digester = WandbDigester()
    digester.add(pa.Table.from_batches([make_page(columns | pack_etags([b"etag"]))]))
    return digester.finish().reason


def the_code_makes_what_we_make(docs: Documents) -> Complaints:
    """The document's own code gives the roots that the golden files pin."""
    root_of = run_code(docs[FORMAT])["root_of"]
    for name in FILES:
        document = document_of(name)
        root = root_of([("", document["source"])], page_of(document).to_pylist())
        yield from differences(name, root.decode()[-200:], document["root"][-200:])


CHECKS: dict[Check, list[tuple[str, str, str]]] = {
    links_resolve: [
        (README, "docs/command.md)", "docs/commands.md)"),
        (FORMAT, "", "[x](#no-such)"),
    ],
    paths_exist: [
        (CONTRIBUTING, "`indexer/views.py`", "`indexer/view.py`"),
        (LISTING, "::test_requests_stay", "::test_requests_remain"),
        (README, "make demo\n", "make show\n"),
    ],
    names_no_place: [(README, "`INDEXER_DATA`", "/ho" + "me/me/x"), (README, "", "py" + "pi.org")],
    data_parses: [
        (FORMAT, '{"tiles": [', '{"tiles": {'),
        (SETTINGS, "no_sign_request = false", "no_sign_request = 3"),
        (README, "import indexer\n", "import\n"),
    ],
    code_runs: [
        (FORMAT, "import hashlib\n", "import hash\n"),
        (CONTRIBUTING, "import Server, ", "import Servant, "),
    ],
    options_are_known: [
        (README, "--prefix val/", "--below val/"),
        (LISTING, "`--allow-empty`", "`--empty`"),
        (README, "`INDEXER_DATA`", "`INDEXER_FOLDER`"),
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
    limits_are_right: [
        (LISTING, "| 1,024 |", "| 1,000 |"),
        (HTTP, "| 16 KiB |", "| 32 KiB |"),
        (HTTP, "| 0.25 s |", "| 0.5 s |"),
        (HTTP, "| `JOBS_KEPT_MAX` | 1,000 |", "| `JOBS_MAX` | 64 |"),
    ],
    the_map_is_whole: [
        (CONTRIBUTING, "| `indexer/views.py` |", "| views |"),
        (CONTRIBUTING, "manifest | page\n", "manifest\npage\n"),
    ],
    operations_are_documented: [
        (HTTP, "| GET | `/readyz` |", "| POST | `/readyz` |"),
        (HTTP, "`/api/v1/commits/{request_id}` | 200", "`/api/v1/commits/{id}` | 200"),
        (HTTP, "| 200, 201 |", "| 200 |"),
    ],
    problems_are_documented: [
        (HTTP, "| `busy` | 429 | yes |", "| `busy` | 503 | yes |"),
        (HTTP, "| `usage` | 400 | |", "| `usage` | 400 | yes |"),
        (HTTP, "| `no-such-job` |", "| `no-job` |"),
        (HTTP, "| see `/docs` for what there is |", "| |"),
    ],
    metrics_are_documented: [
        (HTTP, "| `indexer_queue_depth` |", "| `indexer_queue` |"),
        (HTTP, "| `indexer_queue_depth` | gauge |", "| `indexer_queue_depth` | counter |"),
        (HTTP, "| counter | `state` |", "| counter | |"),
    ],
    documents_are_shown_right: [
        (HTTP, '"objects_listed": 0', '"objects": 0'),
        (HTTP, '"kind": "folder", ', ""),
        (HTTP, '"etag": "', '"tag": "'),
        (HTTP, '"title": "No such version"', '"title": "Nothing"'),
    ],
    columns_are_right: [
        (FORMAT, "| 2 | `uri`", "| 2 | `url`"),
        (FORMAT, "| `uri` | BYTE_ARRAY | String |", "| `uri` | BYTE_ARRAY | |"),
        (FORMAT, "`notes`, ", ""),
    ],
    etags_are_packed_so: [(FORMAT, "| `2` | |", "| `3` | |")],
    digests_are_right: [
        (FORMAT, "01 00  ", "01 01  "),
        (FORMAT, "The digest: `d", "The digest: `e"),
        (FORMAT, '"rows":3', '"rows":4'),
        (FORMAT, "`sha256:5e2", "`sha256:5e3"),
        (FORMAT, "`73bd5f7387c80000`", "`73bd5f7387c80001`"),
    ],
    wandb_digest_is_right: [
        (FORMAT, "b/z:W/opaque", "b/z:W/other"),
        (FORMAT, "digest: `28", "digest: `29"),
        (FORMAT, "`/a`, `a//b`", "`/a`, `a/b`"),
    ],
    the_code_makes_what_we_make: [
        (FORMAT, "bits - 2)", "bits - 4)"),
        (FORMAT, '"<Q", len(rows)', '">Q", len(rows)'),
    ],
}
"""Each check with mistakes that it must see: a document, what stands there, what replaces it."""


def name_of(value: object) -> str | None:
    return value.__name__ if inspect.isfunction(value) else None


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_the_documents_are_right(check: Check) -> None:
    assert list(check(documents())) == []


@pytest.mark.parametrize(
    ("check", "path", "old", "new"),
    [(check, *planted) for check, mistakes in CHECKS.items() for planted in mistakes],
    ids=lambda value: name_of(value) or "",
)
def test_a_mistake_is_seen(check: Check, path: str, old: str, new: str) -> None:
    text = documents()[path]
    assert old in text
    wrong = text.replace(old, new, 1) if old else text + new
    assert next(check({**documents(), path: wrong}), None) is not None


def test_a_file_by_the_code_of_the_format_is_taken() -> None:
    rows = example(documents()).to_pylist()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink, compression="none")
    digest = run_code(documents()[FORMAT])["rows_digest"](rows)
    assert decode_shard(sink.getvalue().to_pybytes(), digest).to_pylist() == rows
