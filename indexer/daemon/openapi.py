"""The daemon's interface as an OpenAPI 3.1 document, made of the table that is served.

Invariants
  * Nothing is written here that the operations and the documents of `wire` do not say; descriptions
    are their docstrings.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from indexer import __version__
from indexer.daemon.operation import ALWAYS, Operation
from indexer.limits import REQUEST_ID_CHARACTERS_MAX
from indexer.references import NAME_CHARACTERS
from indexer.remote import JSON_TYPE, PROBLEM_TYPE
from indexer.wire.problems import Problem

_REFERENCE: Final = "#/components/schemas/{name}"

TITLE: Final = "Bucket indexer"
DESCRIPTION: Final = (
    "References very large object-store prefixes as versioned artifacts: triggers and follows "
    "snapshots, reads what was recorded, and takes shards and versions of an indexer elsewhere."
)

PARAMETERS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "project": ("A project's name.", {"type": "string", "pattern": f"^{NAME_CHARACTERS}$"}),
    "artifact": ("An artifact's name.", {"type": "string", "pattern": f"^{NAME_CHARACTERS}$"}),
    "alias": ("An alias.", {"type": "string", "pattern": f"^{NAME_CHARACTERS}$"}),
    "ref": (
        "A version: `v3`, an alias such as `latest`, or a digest.",
        {"type": "string", "pattern": f"^({NAME_CHARACTERS}|sha256:[0-9a-f]{{64}})$"},
    ),
    "run": ("A run's id.", {"type": "string", "pattern": f"^{NAME_CHARACTERS}$"}),
    "scan": ("A scan's id.", {"type": "string", "pattern": "^[0-9]{1,18}$"}),
    "id": ("A job's id.", {"type": "string", "pattern": "^[0-9a-f]{16}$"}),
    "shard": ("A shard's digest.", {"type": "string", "pattern": "^[0-9a-f]{64}$"}),
    "digest": ("A manifest's digest.", {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}),
    "request_id": (
        "The name that a commit was given.",
        {"type": "string", "pattern": f"^[A-Za-z0-9._-]{{1,{REQUEST_ID_CHARACTERS_MAX}}}$"},
    ),
}
"""Parameters of paths by name: what they are, and what they look like."""


def document_of(operations: Sequence[Operation]) -> bytes:
    """The document of a table of operations, as JSON."""
    kinds = _kinds(operations)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _described(operation, schema_of, components)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    queries = {operation.query.__name__ for operation in operations}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": TITLE, "version": __version__, "description": DESCRIPTION},
            "paths": paths,
            "components": {"schemas": {n: s for n, s in components.items() if n not in queries}},
        },
        order="deterministic",
    )


def _kinds(operations: Sequence[Operation]) -> list[type[msgspec.Struct]]:
    """Every document that is taken or given."""
    kinds: dict[type[msgspec.Struct], None] = {Problem: None}
    for operation in operations:
        for kind in (operation.query, operation.body, *operation.answers.values()):
            if kind is not None and not isinstance(kind, str):
                kinds[kind] = None
    return list(kinds)


def _described(
    operation: Operation,
    schema_of: Mapping[type[msgspec.Struct], Any],
    components: Mapping[str, Any],
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": inspect.getdoc(operation.handle) or operation.summary,
        "parameters": [
            *(_parameter("path", name, *PARAMETERS[name]) for name in operation.parameters),
            *_query_parameters(components[operation.query.__name__]),
            *(
                _parameter("header", each.name, each.said, each.schema)
                for each in operation.headers
            ),
        ],
        "responses": {
            **{
                str(status): _response(status, kind, schema_of)
                for status, kind in operation.answers.items()
            },
            **{
                str(status): _problem(status, schema_of)
                for status in sorted({*ALWAYS, *operation.problems} - operation.answers.keys())
            },
        },
    }
    if operation.body is not None:
        is_text = isinstance(operation.body, str)
        media_type = operation.body if isinstance(operation.body, str) else JSON_TYPE
        schema = {} if is_text else schema_of[operation.body]  # type: ignore[index]
        described["requestBody"] = {
            "required": True,
            "content": {media_type: {"schema": schema} if schema else {}},
        }
    return described


def _query_parameters(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", ())
    return [
        {
            "in": "query",
            "name": name,
            "required": name in required,
            "schema": _without_null(each),
        }
        for name, each in schema["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that is left out where it would be null."""
    kept = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    if len(kept) == 1:
        return kept[0]  # type: ignore[no-any-return]
    if "enum" in schema:
        return {**schema, "enum": [one for one in schema["enum"] if one is not None]}
    return schema


def _parameter(place: str, name: str, said: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "in": place,
        "name": name,
        "required": place == "path",
        "description": said,
        "schema": schema,
    }


def _response(
    status: int,
    kind: type[msgspec.Struct] | str | None,
    schema_of: Mapping[type[msgspec.Struct], Any],
) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(kind, str):
        described["content"] = {kind: {}}
    elif kind is not None:
        described["content"] = {JSON_TYPE: {"schema": schema_of[kind]}}
    return described


def _problem(status: int, schema_of: Mapping[type[msgspec.Struct], Any]) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {PROBLEM_TYPE: {"schema": schema_of[Problem]}},
    }
