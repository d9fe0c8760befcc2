"""Runs for scripts: what a block of code uses and makes, in W&B's words.

    with indexer.run(project="vision", job_type="train", config={"epochs": 3}) as run:
        images = run.use_artifact("images:latest")
        ...
        model = indexer.Artifact("model", type="model", metadata={"accuracy": 0.93})
        model.add_reference("s3://bucket/models/7/")
        run.log_artifact(model)

Invariants
  * Nothing is uploaded: an artifact is what its references name, and a path on this machine is
    referenced too.
  * A run whose block raises has failed, and what it used and made until then stays recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from indexer.errors import IndexerError, InvalidReference, InvalidSetting
from indexer.label_rules import plain, words
from indexer.library.settings import ReachSettings, SnapshotSettings, arguments
from indexer.library.snapshots import snapshot
from indexer.library.version import Version
from indexer.limits import OBJECTS_MAX_DEFAULT
from indexer.places import Place, open_workspace, place_of, settings_of
from indexer.records import RunChange, RunRecord, RunRequest, RunState
from indexer.references import parse_reference
from indexer.runner import Portal
from indexer.workspace import Workspace

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Reference:
    uri: str
    mount: str | None
    checksum: str | None
    max_objects: int | None


class Artifact:
    """An artifact to log: references to what is in it, and what is said of it.

    `name` is the artifact's, in the run's project or with one, as in `project/artifact`. `type` is
    fixed by its first version, `dataset` where none is given. `version` is there once it was
    logged.
    """

    def __init__(
        self,
        name: str,
        type: str | None = None,  # noqa: A002 - W&B's word, which users know
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        notes: str | None = None,
        aliases: Sequence[str] = (),
        tags: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.type = type
        self.description = description
        self.metadata = metadata
        self.notes = notes
        self.aliases = words(aliases)
        self.tags = words(tags)
        self.version: Version | None = None
        self._references: list[_Reference] = []

    def __repr__(self) -> str:
        logged = "not logged" if self.version is None else self.version.ref
        return f"<Artifact {self.name}: {len(self._references)} references, {logged}>"

    def add_reference(
        self,
        uri: str | Path,
        name: str | None = None,
        checksum: bool | str | None = None,  # noqa: FBT001 - as W&B has it
        max_objects: int | None = None,
    ) -> None:
        """References everything below `uri`, a URI or a path; below the folder `name`, if given.

        Several references each need a name. `checksum` is what is recorded of objects' bytes, the
        same for all references: the name of one, False for none, and None or True for what is
        usual, which is the MD5 of files alone. `max_objects` is the most that are listed of this
        reference; 10,000 where none is given.

        Raises `InvalidSetting` once the artifact was logged.
        """
        if self.version is not None:
            raise InvalidSetting(
                f"the artifact {self.name!r} was logged as {self.version.ref}, which does not "
                f"change any more. Log another one of that name."
            )
        said = {True: None, False: "none"}.get(checksum) if isinstance(checksum, bool) else checksum
        self._references.append(_Reference(str(uri), name, said, max_objects))

    def save(
        self,
        project: str | None = None,
        *,
        data: str | Path | None = None,
        server: str | None = None,
        **given: Unpack[SnapshotSettings],
    ) -> Version:
        """Logs the artifact outside of any run: it gets one of its own.

        What is there already is confirmed; a version is made only of what changed. Raises what
        `snapshot` does.
        """
        return self._log(project, data=data, server=server, **given)

    def _log(
        self,
        project: str | None,
        *,
        run: str | None = None,
        aliases: Sequence[str] = (),
        tags: Sequence[str] = (),
        **given: Any,
    ) -> Version:
        checksums = {one.checksum for one in self._references if one.checksum is not None}
        if len(checksums) > 1:
            raise InvalidSetting(
                f"the references of {self.name!r} have several checksums "
                f"({', '.join(sorted(checksums))}), where a version has one. Give each the same."
            )
        given.setdefault("checksum", next(iter(checksums), None))
        given.setdefault("max_objects", self._max_objects)
        self.version = snapshot(
            self._sources(),
            name=_with_project(self.name, project),
            type=self.type,
            aliases=(*self.aliases, *words(aliases)),
            notes=self.notes,
            description=self.description,
            metadata=self.metadata,
            tags=(*self.tags, *words(tags)),
            run=run,
            **given,
        )
        return self.version

    @property
    def _max_objects(self) -> int | None:
        """The most of all references together, which is what is bounded; None if none has any."""
        given = [one.max_objects for one in self._references]
        if all(one is None for one in given):
            return None
        return sum(OBJECTS_MAX_DEFAULT if one is None else one for one in given)

    def _sources(self) -> str | dict[str, str]:
        if not self._references:
            raise InvalidSetting(
                f"the artifact {self.name!r} has no references: say what is in it with "
                f"add_reference."
            )
        if len(self._references) == 1 and self._references[0].mount is None:
            return self._references[0].uri
        sources = {one.mount: one.uri for one in self._references if one.mount is not None}
        if len(sources) < len(self._references):
            raise InvalidReference(
                f"the artifact {self.name!r} has {len(self._references)} references, each of which "
                f"needs a name of its own: give add_reference one."
            )
        return sources


class Run:
    """A run that was started; `with` ends it.

    `record` says what was known of it when it was last changed here, `place` where it is kept.
    `settings` are those by which its sources are reached, where its verbs are given no others.
    """

    def __init__(self, record: RunRecord, place: Place, settings: ReachSettings) -> None:
        self.record = record
        self.place = place
        self.settings = settings
        self._has_ended = False

    @property
    def id(self) -> str:
        """Its id, by which it is known to `indexer runs show`, and can be gone on with."""
        return self.record.id

    @property
    def project(self) -> str:
        """The project it is in."""
        return self.record.project

    @property
    def config(self) -> dict[str, Any]:
        """What it is run with."""
        return self.record.config

    def log_artifact(
        self,
        artifact: Artifact | str | Path,
        name: str | None = None,
        type: str | None = None,  # noqa: A002 - W&B's word, which users know
        *,
        aliases: Sequence[str] = (),
        tags: Sequence[str] = (),
        **given: Unpack[SnapshotSettings],
    ) -> Version:
        """Logs an artifact as what this run made, and returns its version.

        A URI or a path is logged as the artifact `name`. Where nothing changed, the version that is
        there is confirmed by the run. Settings are those of `snapshot`. Raises what that does, and
        `RunEnded`.
        """
        if not isinstance(artifact, Artifact):
            if name is None:
                raise InvalidReference(
                    f"{str(artifact)!r} needs the name of an artifact to be logged as: give one."
                )
            reference, artifact = artifact, Artifact(name, type)
            artifact.add_reference(reference)
        return artifact._log(  # noqa: SLF001
            self.project, run=self.id, aliases=aliases, tags=tags, **self._given(given)
        )

    def use_artifact(
        self,
        artifact: Artifact | Version | str,
        *,
        use_as: str | None = None,
        **given: Unpack[SnapshotSettings],
    ) -> Version:
        """Records a version as an input of this run, and returns it. Once is enough.

        A text names one, as `images:latest`, in this project or with another. An `Artifact` that
        was not logged yet is snapshot first, in a run of its own; that makes a version only if
        something changed. Raises what `snapshot` does, `NoSuchVersion` and `RunEnded`.
        """
        if isinstance(artifact, Artifact):
            used = artifact.version or artifact._log(self.project, **self._given(given))  # noqa: SLF001
        elif isinstance(artifact, Version):
            used = artifact
        else:
            used = None
        if used is not None:
            self._check_place(used)
            wanted = parse_reference(used.ref)
        else:
            wanted = parse_reference(_with_project(str(artifact), self.project))
        record = _run_at(self.place, lambda workspace: workspace.use(wanted, self.id, use_as))
        return Version(record, self.place) if used is None else replace(used, record=record)

    def __repr__(self) -> str:
        return f"<Run {self.project}/{self.id}: {self.record.state}>"

    def change(
        self,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        notes: str | None = None,
    ) -> None:
        """Changes what is said of the run; what is None stays as it is."""
        change = RunChange(name, None if config is None else plain(config), notes)
        self.record = _run_at(self.place, lambda workspace: workspace.change_run(self.id, change))

    def finish(self, state: Literal["finished", "failed"] = "finished") -> None:
        """Ends the run, which then takes nothing more. Leaving its block does that by itself."""
        if state not in ("finished", "failed"):
            raise InvalidSetting(f"{state!r} is no end of a run: write finished or failed.")
        self.record = _run_at(
            self.place, lambda workspace: workspace.finish_run(self.id, RunState(state))
        )
        self._has_ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._has_ended:
            return
        has_failed = error is not None and not _is_exit(error)
        try:
            self.finish("failed" if has_failed else "finished")
        except IndexerError as other:
            if error is None:
                raise
            # What the block raised is what its caller has to know.
            error.add_note(f"The run {self.id} could not be ended: {other}")

    def _given(self, settings: SnapshotSettings) -> dict[str, Any]:
        """What a snapshot in this run is given: where the run is kept, and the settings."""
        is_daemon = self.place.server is not None
        where = {"server": self.place.server} if is_daemon else {"data": self.place.data}
        return {**self.settings, **settings, **where}

    def _check_place(self, version: Version) -> None:
        here, there = self.place, version.place
        if here.server != there.server or (here.server is None and here.data != there.data):
            raise InvalidSetting(
                f"{version.ref} is kept at {there.server or there.data}, and the run {self.id} at "
                f"{here.server or here.data}. Use a version that is kept there."
            )


def run(
    *,
    project: str,
    job_type: str | None = None,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    notes: str | None = None,
    id: str | None = None,  # noqa: A002 - W&B's word, which users know
    data: str | Path | None = None,
    server: str | None = None,
    **given: Unpack[ReachSettings],
) -> Run:
    """Starts a run in `project`; `with indexer.run(...) as run:` ends it with its block.

    `job_type` says what kind of job it is (`train`), `config` what it is run with, as JSON holds
    it. With the `id` of a run that is there, that one goes on. `data` or `server` say where it is
    kept; the settings hold for all sources that are snapshot in it. Raises `InvalidReference` and
    `InvalidSetting`.
    """
    request = RunRequest(
        project=project,
        id=id,
        name=name,
        job_type=job_type,
        config=None if config is None else plain(config),
        notes=notes,
    )
    place = place_of(settings_of(arguments(given, ReachSettings, data, server)))
    record = _run_at(place, lambda workspace: workspace.start_run(request))
    return Run(record, place, given)


def _run_at(place: Place, function: Callable[[Workspace], Coroutine[Any, Any, Result]]) -> Result:
    with Portal(open_workspace(place)) as portal:
        return portal.run(function)


def _with_project(name: str, project: str | None) -> str:
    return name if "/" in name or project is None else f"{project}/{name}"


def _is_exit(error: BaseException) -> bool:
    """Whether a script ends itself, and says that all went well."""
    return isinstance(error, SystemExit) and error.code in (None, 0)
