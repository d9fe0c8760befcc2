"""The ids behind names, and what to say when a name is not there.

`find_…` answers None for what is not there. `require_…` raises `NoSuchVersion`, which offers names
that are. Every function takes a connection inside of a transaction.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select

from indexer.catalog.schema import aliases, artifacts, projects, versions
from indexer.commit_rules import LATEST
from indexer.errors import NoSuchVersion
from indexer.limits import NAMES_COMPARED_MAX, NAMES_SUGGESTED_MAX
from indexer.records import Consistency
from indexer.references import DIGEST_PATTERN, VERSION_PATTERN, ArtifactName

IS_THERE: Final = versions.c.deleted_at.is_(None)
"""Of versions: those that were not deleted. All but numbers and lineage is about these alone."""


def find_project(connection: Connection, project: str) -> int | None:
    """The project's id."""
    return connection.execute(select(projects.c.id).where(projects.c.name == project)).scalar()


def find_artifact(connection: Connection, name: ArtifactName) -> int | None:
    """The artifact's id."""
    return connection.execute(
        select(artifacts.c.id)
        .join(projects, artifacts.c.project_id == projects.c.id)
        .where(projects.c.name == name.project, artifacts.c.name == name.artifact)
    ).scalar()


def find_newest(connection: Connection, artifact_id: int, *, partial: bool) -> int | None:
    """The id of the version that a commit would follow: `latest`, or the newest partial one."""
    if not partial:
        return find_alias(connection, artifact_id, LATEST)
    return _newest(connection, artifact_id, versions.c.consistency == Consistency.PARTIAL.value)


def find_digest(connection: Connection, artifact_id: int, manifest_digest: str) -> int | None:
    """The id of the newest version that has the digest."""
    return _newest(connection, artifact_id, versions.c.manifest_digest == manifest_digest)


def find_whole(connection: Connection, artifact_id: int, manifest_digest: str) -> int | None:
    """The id of the newest version that has the digest and is not partial."""
    is_whole = versions.c.consistency != Consistency.PARTIAL.value
    has_digest = versions.c.manifest_digest == manifest_digest
    return _newest(connection, artifact_id, and_(is_whole, has_digest))


def find_manifest(connection: Connection, manifest_digest: str) -> bool:
    """Whether a version of any artifact has the digest."""
    has_it = versions.c.manifest_digest == manifest_digest
    return connection.execute(select(versions.c.id).where(has_it, IS_THERE)).first() is not None


def require_manifest(connection: Connection, manifest_digest: str) -> None:
    """Raises `NoSuchVersion` unless a version of any artifact has the digest."""
    if find_manifest(connection, manifest_digest):
        return
    last = connection.execute(
        select(versions.c.id)
        .where(versions.c.manifest_digest == manifest_digest)
        .order_by(versions.c.deleted_at.desc())
        .limit(1)
    ).scalar()
    if last is not None:
        raise NoSuchVersion(f"{_how_it_went(connection, last)}.")
    raise NoSuchVersion(f"there is no version with the digest {manifest_digest}.")


def protected_of(connection: Connection, version_id: int) -> Sequence[str]:
    """The protected aliases that mean a version, by name."""
    is_its = and_(aliases.c.version_id == version_id, aliases.c.protected)
    return (
        connection.execute(select(aliases.c.name).where(is_its).order_by(aliases.c.name))
        .scalars()
        .all()
    )


def find_alias(connection: Connection, artifact_id: int, alias: str) -> int | None:
    """The id of the version that an alias names."""
    return connection.execute(
        select(aliases.c.version_id).where(
            aliases.c.artifact_id == artifact_id, aliases.c.name == alias
        )
    ).scalar()


def require_project(connection: Connection, project: str) -> int:
    """The project's id."""
    found = find_project(connection, project)
    if found is None:
        known = _names(connection, select(projects.c.name))
        raise NoSuchVersion(
            f"there is no project {project!r} here; "
            f"{_offer(project, known, 'the projects are', 'none was made yet')}."
        )
    return found


def require_artifact(connection: Connection, name: ArtifactName) -> int:
    """The artifact's id."""
    project_id = require_project(connection, name.project)
    found = find_artifact(connection, name)
    if found is None:
        known = _names(
            connection, select(artifacts.c.name).where(artifacts.c.project_id == project_id)
        )
        raise NoSuchVersion(
            f"there is no artifact {name}; "
            f"{_offer(name.artifact, known, 'the project has', 'the project has none')}."
        )
    return found


def require_version(
    connection: Connection, name: ArtifactName, selector: str, *, deleted: bool = False
) -> tuple[int, int]:
    """The ids of an artifact and of the version that `v3`, an alias or `sha256:…` selects there.

    A digest selects the newest version that has it. With `deleted`, one that was is found, too, by
    its number or digest.
    """
    artifact_id = require_artifact(connection, name)
    if match := VERSION_PATTERN.fullmatch(selector):
        found = _newest(connection, artifact_id, versions.c.number == int(match.group(1)))
    elif DIGEST_PATTERN.fullmatch(selector):
        found = find_digest(connection, artifact_id, selector)
    else:
        found = find_alias(connection, artifact_id, selector)
    if found is None:
        mark = "@" if DIGEST_PATTERN.fullmatch(selector) else ":"
        there_is = _what_there_is(connection, artifact_id, selector)
        if (gone := _find_deleted(connection, artifact_id, selector)) is not None:
            if deleted:
                return artifact_id, gone
            raise NoSuchVersion(f"{_how_it_went(connection, gone)}; {there_is}.")
        raise NoSuchVersion(f"there is no {name}{mark}{selector}; {there_is}.")
    return artifact_id, found


def _find_deleted(connection: Connection, artifact_id: int, selector: str) -> int | None:
    """The newest of the deleted versions that a number or a digest selects."""
    if match := VERSION_PATTERN.fullmatch(selector):
        which = versions.c.number == int(match.group(1))
    else:
        which = versions.c.manifest_digest == selector
    return _newest(connection, artifact_id, which, ~IS_THERE)


def _how_it_went(connection: Connection, version_id: int) -> str:
    row = connection.execute(
        select(
            projects.c.name.label("project"),
            artifacts.c.name.label("artifact"),
            versions.c.number,
            versions.c.deleted_at,
            versions.c.deleted_because,
        )
        .join_from(versions, artifacts, versions.c.artifact_id == artifacts.c.id)
        .join(projects, artifacts.c.project_id == projects.c.id)
        .where(versions.c.id == version_id)
    ).one()
    how = "expired, and was deleted" if row.deleted_because == "expired" else "was removed"
    return (
        f"{row.project}/{row.artifact}:v{row.number} {how} at {row.deleted_at:%Y-%m-%d %H:%M} UTC"
    )


def _newest(
    connection: Connection,
    artifact_id: int,
    which: ColumnElement[bool],
    state: ColumnElement[bool] = IS_THERE,
) -> int | None:
    selected = (
        select(versions.c.id)
        .where(versions.c.artifact_id == artifact_id, which, state)
        .order_by(versions.c.number.desc())
        .limit(1)
    )
    return connection.execute(selected).scalar()


def _what_there_is(connection: Connection, artifact_id: int, selector: str) -> str:
    oldest, newest = connection.execute(
        select(func.min(versions.c.number), func.max(versions.c.number)).where(
            versions.c.artifact_id == artifact_id, IS_THERE
        )
    ).one()
    if newest is None:
        return "no version is left of it"
    numbers = f"v{oldest} alone" if oldest == newest else f"v{oldest} to v{newest}"
    known = _names(connection, select(aliases.c.name).where(aliases.c.artifact_id == artifact_id))
    return f"it has {numbers} and {_offer(selector, known, 'the aliases', 'no alias')}"


def _names(connection: Connection, selected: Select[str]) -> Sequence[str]:
    return connection.execute(selected.limit(NAMES_COMPARED_MAX)).scalars().all()


def _offer(wrong: str, known: Sequence[str], some: str, none: str) -> str:
    if not known:
        return none
    near = difflib.get_close_matches(wrong, known, NAMES_SUGGESTED_MAX)
    names = near or sorted(known)[:NAMES_SUGGESTED_MAX]
    return f"{some} {', '.join(names)}{', …' if len(names) < len(known) else ''}"
