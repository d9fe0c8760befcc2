"""The interface for people: its OpenAPI document as a page without scripts or network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

HTML_TYPE: Final = "text/html; charset=utf-8"

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; font-size: 1.1rem; overflow-wrap: anywhere; }
code, pre { font: 0.9rem/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid; border-radius: 4px; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { text-align: left; padding: 0.2rem 1rem 0.2rem 0; vertical-align: top; }
nav ul { columns: 20rem; padding: 0; list-style: none; }
nav li { overflow-wrap: anywhere; break-inside: avoid; }
summary { cursor: pointer; }
"""


def docs_page(openapi: bytes) -> bytes:
    """The page of an OpenAPI document."""
    document = json.loads(openapi)
    operations = [
        (method.upper(), path, each)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
    ]
    info = document["info"]
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])}</p>",
        "<p>The same as <a href='/openapi.json'>OpenAPI document</a>.</p>",
        "<p>Failures are problems as RFC 9457 has them.</p><nav><ul>",
        *(
            f"<li><a href='#{escape(each['operationId'])}'>{escape(each['summary'])}</a></li>"
            for _, _, each in operations
        ),
        "</ul></nav><main>",
        *(line for one in operations for line in _operation(*one)),
        "<h1>Documents</h1>",
        *(
            f"<details id='schema-{escape(name)}'><summary><code>{escape(name)}</code> "
            f"{escape(schema.get('description', ''))}</summary>{_code(schema)}</details>"
            for name, schema in document["components"]["schemas"].items()
        ),
        "</main></body></html>",
    ]
    return "\n".join(parts).encode()


def _operation(method: str, path: str, described: Mapping[str, Any]) -> Iterator[str]:
    yield f"<section id='{escape(described['operationId'])}'>"
    yield f"<h2><code>{escape(method)} {escape(path)}</code></h2>"
    yield f"<p>{escape(described['description'])}</p>"
    if described["parameters"]:
        yield "<table><tr><th>parameter</th><th>in</th><th></th><th></th></tr>"
        for each in described["parameters"]:
            cells = (each["name"], each["in"], each.get("description", ""))
            yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            yield f"<td><code>{escape(json.dumps(each['schema']))}</code></td></tr>"
        yield "</table>"
    if body := described.get("requestBody"):
        yield f"<p>It takes {_content(body['content'])}.</p>"
    yield "<table><tr><th>status</th><th></th><th></th></tr>"
    for status, each in described["responses"].items():
        content = _content(each["content"]) if "content" in each else "no body"
        yield f"<tr><td>{escape(status)}</td><td>{escape(each['description'])}</td>"
        yield f"<td>{content}</td></tr>"
    yield "</table></section>"


def _content(content: Mapping[str, Any]) -> str:
    said = []
    for media_type, each in content.items():
        name = each.get("schema", {}).get("$ref", "").rpartition("/")[2]
        link = f"<a href='#schema-{escape(name)}'>{escape(name)}</a>, " if name else ""
        said.append(f"{link}<code>{escape(media_type)}</code>")
    return " or ".join(said)


def _code(document: Any) -> str:
    return f"<pre>{escape(json.dumps(document, indent=2))}</pre>"
