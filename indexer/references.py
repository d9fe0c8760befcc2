"""What a user may write to name things, parsed once: artifacts, their versions, a daemon.

Invariants
  * Text that cannot be read raises `InvalidReference` with what to write instead; nothing is
    guessed, trimmed or repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from indexer.errors import InvalidReference
from indexer.limits import PORT_DEFAULT, TAG_CHARACTERS_MAX
from indexer.telemetry import without_credentials

NAME_CHARACTERS: Final = r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}"
"""Without `.` and `..`, which mean folders wherever a name becomes part of a path or a URL."""

NAME_PATTERN: Final = re.compile(NAME_CHARACTERS)
VERSION_PATTERN: Final = re.compile(r"v(0|[1-9][0-9]{0,8})")
TAG_PATTERN: Final = re.compile(r"(?! )[A-Za-z0-9 ._:-]+(?<! )")
DIGEST_PATTERN: Final = re.compile(r"sha256:[0-9a-f]{64}")

SERVER_SCHEMES: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """An artifact's full name: its project and its own."""

    project: str
    artifact: str

    def __str__(self) -> str:
        return f"{self.project}/{self.artifact}"


@dataclass(frozen=True, slots=True)
class VersionRef:
    """A reference to a version: the artifact, and `v3`, an alias, or `sha256:…`."""

    name: ArtifactName
    selector: str

    def __str__(self) -> str:
        mark = "@" if DIGEST_PATTERN.fullmatch(self.selector) else ":"
        return f"{self.name}{mark}{self.selector}"


def parse_name(text: str) -> ArtifactName:
    """The artifact that `[entity/]project/artifact` names. Raises `InvalidReference`."""
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(NAME_PATTERN.fullmatch(part) for part in parts):
        raise InvalidReference(
            f"{text!r} is no artifact name: write project/artifact, each of 1 to 128 letters, "
            f"digits, '.', '_' or '-'."
        )
    project, artifact = parts[-2:]
    return ArtifactName(project, artifact)


def parse_project(text: str) -> str:
    """A project's name. Raises `InvalidReference`."""
    if not NAME_PATTERN.fullmatch(text):
        raise InvalidReference(
            f"{text!r} is no project name: write 1 to 128 letters, digits, '.', '_' or '-'."
        )
    return text


def parse_reference(text: str) -> VersionRef:
    """The version that `[entity/]project/artifact:selector` or `…@sha256:…` names.

    Without a selector `latest` is meant. Raises `InvalidReference`.
    """
    name, at, digest = text.partition("@")
    if at:
        if not DIGEST_PATTERN.fullmatch(digest):
            raise InvalidReference(
                f"{text!r} has no digest after the @: write @sha256: and 64 hexadecimal digits."
            )
        return VersionRef(parse_name(name), digest)
    name, colon, selector = text.partition(":")
    if colon and not NAME_PATTERN.fullmatch(selector):
        raise InvalidReference(
            f"{text!r} names no version after the colon: write :v3, :latest or an alias."
        )
    return VersionRef(parse_name(name), selector or "latest")


def parse_beside(text: str, name: ArtifactName) -> VersionRef:
    """The version that `text` names, which of the artifact `name` may be written without it.

    That is `v3`, an alias or `sha256:…`. Raises `InvalidReference`.
    """
    if "/" in text:
        return parse_reference(text)
    if not (DIGEST_PATTERN.fullmatch(text) or NAME_PATTERN.fullmatch(text)):
        raise InvalidReference(
            f"{text!r} names no version: write v3, an alias or sha256: and 64 hexadecimal digits "
            f"for one of {name}, or project/artifact:v3."
        )
    return VersionRef(name, text)


def parse_alias(text: str) -> str:
    """An alias that a user may set. Raises `InvalidReference`."""
    if not NAME_PATTERN.fullmatch(text):
        raise InvalidReference(
            f"{text!r} is no alias: write 1 to 128 letters, digits, '.', '_' or '-'."
        )
    if text == "latest" or re.fullmatch(r"v[0-9]+", text):
        raise InvalidReference(
            f"{text!r} is no alias to set: 'latest' moves by itself, and v0, v1, … are versions."
        )
    return text


def parse_tag(text: str) -> str:
    """A tag of a version. Raises `InvalidReference`."""
    if len(text) > TAG_CHARACTERS_MAX or not TAG_PATTERN.fullmatch(text):
        raise InvalidReference(
            f"{text[:80]!r} is no tag: write 1 to {TAG_CHARACTERS_MAX} letters, digits, '.', '_', "
            f"':', '-' or spaces within."
        )
    return text


def parse_run(text: str) -> str:
    """A run's id. Raises `InvalidReference`."""
    if not NAME_PATTERN.fullmatch(text):
        raise InvalidReference(
            f"{text[:80]!r} is no run: write its id, 1 to 128 letters, digits, '.', '_' or '-'."
        )
    return text


def parse_server(text: str) -> str:
    """The URL of a daemon, without a slash at its end. Raises `InvalidReference`."""
    quoted = repr(without_credentials(text))
    example = f"write one such as http://127.0.0.1:{PORT_DEFAULT}"
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in SERVER_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url, parts = False, urlsplit("")
    if not is_url or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidReference(f"{quoted} is no URL of a daemon: {example}.")
    if "@" in parts.netloc:
        raise InvalidReference(f"{quoted} holds a user name or a password: leave them out.")
    if parts.query or parts.fragment:
        raise InvalidReference(f"{quoted} has more than a host, a port and a path: {example}.")
    return text.rstrip("/")
