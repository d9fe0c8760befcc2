"""Settings: what may be set, where a value comes from, and what it must look like.

    option  >  INDEXER_* in the environment  >  indexer.toml  >  default

`indexer.toml` is the one that INDEXER_CONFIG names, else the one in the current folder, else the
one in the user's configuration folder. Its keys are the names below.

Invariants
  * Every setting is in `SETTINGS`; a name that is not, in the file, is an error and not ignored.
  * No secret is a setting.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from indexer.checksums import CHECKSUMS
from indexer.errors import InvalidSetting
from indexer.limits import (
    CACHE_BYTES_MAX_DEFAULT,
    IN_FLIGHT_DEFAULT,
    IN_FLIGHT_MAX,
    JOBS_MAX,
    JOBS_RUNNING_MAX,
    OBJECTS_MAX,
    OBJECTS_MAX_DEFAULT,
    PORT_DEFAULT,
    PORT_MAX,
    QUERY_MEMORY_MIB_DEFAULT,
    QUERY_MEMORY_MIB_MAX,
    QUERY_MEMORY_MIB_MIN,
    QUERY_ROWS_DEFAULT,
    QUERY_ROWS_MAX,
    QUERY_TIMEOUT_S_DEFAULT,
    QUERY_TIMEOUT_S_MAX,
    REQUESTS_PER_S_MAX,
    SIZE_BYTES_MAX,
)

DEFAULT: Final = "default"
"""What a setting comes from that nobody set."""

SYMLINKS: Final = ("skip", "inside", "follow")

TRUE_WORDS: Final = frozenset(("1", "true", "yes", "on"))
FALSE_WORDS: Final = frozenset(("0", "false", "no", "off", ""))


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name, its default, what it may be, and what it is for."""

    name: str
    default: str | int | bool | None
    help: str
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = 0

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"INDEXER_{self.name.upper()}"

    def parse(self, value: object, origin: str) -> str | int | bool | None:
        """The value, in the default's kind. Raises `InvalidSetting`, naming where it was set."""
        if isinstance(self.default, bool):
            return self._parse_flag(value, origin)
        if isinstance(self.default, int):
            return self._parse_number(value, origin)
        if not isinstance(value, str) or (self.choices and value not in self.choices):
            wanted = f"one of {', '.join(self.choices)}" if self.choices else "text"
            raise InvalidSetting(f"{origin}: {self.name} is {value!r}, and should be {wanted}.")
        return value

    def _parse_flag(self, value: object, origin: str) -> bool:
        if isinstance(value, bool):
            return value
        word = str(value).lower()
        if word not in TRUE_WORDS | FALSE_WORDS:
            raise InvalidSetting(
                f"{origin}: {self.name} is {value!r}, and should be true or false."
            )
        return word in TRUE_WORDS

    def _parse_number(self, value: object, origin: str) -> int:
        try:
            number = int(value) if isinstance(value, (str, int)) else None
        except ValueError:
            number = None
        if number is None or isinstance(value, bool) or not self.least <= number <= self.most:
            raise InvalidSetting(
                f"{origin}: {self.name} is {value!r}, and should be a number from {self.least:,} "
                f"to {self.most:,}."
            )
        return number


SETTINGS: Final = (
    Setting("data", None, "Folder that holds the catalog and its shards."),
    Setting("server", None, "URL of a daemon to work on, in place of a data folder."),
    Setting("max_objects", OBJECTS_MAX_DEFAULT, "Most objects that a snapshot may list.",
            least=1, most=OBJECTS_MAX),
    Setting("on_limit", "error", "What to do when there are more objects than that.",
            choices=("error", "partial")),
    Setting("in_flight", IN_FLIGHT_DEFAULT, "Most requests to stores under way at once.",
            least=1, most=IN_FLIGHT_MAX),
    Setting("requests_per_s", 0, "Most requests to stores in a second; 0 for any number.",
            most=REQUESTS_PER_S_MAX),
    Setting("checksum", None, "What is recorded of objects' bytes.", choices=CHECKSUMS),
    Setting("symlinks", "inside", "What becomes of symbolic links.",
            choices=SYMLINKS),
    Setting("cache", "copy", "How downloads use the local cache: copy, hard link, or not at all.",
            choices=("copy", "link", "off")),
    Setting("cache_folder", None, "Folder of the local cache."),
    Setting("cache_bytes", CACHE_BYTES_MAX_DEFAULT, "Most bytes that the cache keeps.",
            most=SIZE_BYTES_MAX),
    Setting("user_project", None, "Google project that pays for requests to GCS."),
    Setting("profile", None, "AWS profile."),
    Setting("region", None, "AWS region."),
    Setting("endpoint_url", None, "S3 endpoint."),
    Setting("no_sign_request", default=False, help="Ask S3 and GCS as anybody."),
    Setting("request_payer", None, "Who pays for requests to S3.", choices=("requester",)),
    Setting("query_timeout_s", QUERY_TIMEOUT_S_DEFAULT, "Most seconds that a query may take.",
            least=1, most=QUERY_TIMEOUT_S_MAX),
    Setting("query_memory_mib", QUERY_MEMORY_MIB_DEFAULT, "Most memory of a query, in MiB.",
            least=QUERY_MEMORY_MIB_MIN, most=QUERY_MEMORY_MIB_MAX),
    Setting("query_rows", QUERY_ROWS_DEFAULT, "Most rows that a query may give.",
            least=1, most=QUERY_ROWS_MAX),
    Setting("host", "127.0.0.1", "Address that a daemon listens on."),
    Setting("port", PORT_DEFAULT, "Port that a daemon listens on; 0 takes any that is free.",
            most=PORT_MAX),
    Setting("jobs", JOBS_RUNNING_MAX, "Most snapshots that a daemon makes at once.",
            least=1, most=JOBS_MAX),
    Setting("log_level", "warning", "Least severe messages to log.",
            choices=("debug", "info", "warning", "error")),
    Setting("log_format", "console", "How to write log messages.", choices=("console", "json")),
)  # fmt: skip


class Settings:
    """The value of every setting, by name, and where each came from."""

    def __init__(self, values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
        self._values = dict(values)
        self.origins = dict(origins)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def given(self, name: str) -> Any:
        """The value of a setting if somebody set it; None where its default holds."""
        return None if self.origins[name] == DEFAULT else self._values[name]

    @property
    def server(self) -> str | None:
        """The daemon to work on, None for a data folder.

        A folder that the command line names wins over a daemon that it does not. Raises
        `InvalidSetting` when it names both.
        """
        if self._values["server"] is None or self.origins["data"] != "--data":
            return self._values["server"]  # type: ignore[no-any-return]
        if self.origins["server"] == "--server":
            raise InvalidSetting("--data names a folder and --server a daemon: give one of them.")
        return None

    @property
    def data(self) -> Path:
        """The data folder. Raises `InvalidSetting` for the home of a user who is not there."""
        try:
            return Path(self._values["data"]).expanduser()
        except RuntimeError as error:
            origin, chosen = self.origins["data"], self._values["data"]
            raise InvalidSetting(f"{origin}: data is {chosen!r}: {error}") from error


def load_settings(
    options: Mapping[str, object], environment: Mapping[str, str], folder: Path
) -> Settings:
    """All settings; `options` that are None were not given.

    Raises `InvalidSetting` for a value or a file that cannot be read.
    """
    path = _config_file(environment, folder)
    file = _read(path) if path else {}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in SETTINGS:
        sources = (
            (options.get(setting.name), f"--{setting.name.replace('_', '-')}"),
            (_variable(setting, environment), setting.variable),
            (file.get(setting.name), str(path)),
        )
        given = next(((value, where) for value, where in sources if value is not None), None)
        if given is None:
            values[setting.name], origins[setting.name] = setting.default, DEFAULT
        else:
            values[setting.name] = setting.parse(*given)
            origins[setting.name] = given[1]
    values["data"] = values["data"] or str(default_data_folder(environment))
    values["cache_folder"] = values["cache_folder"] or str(default_cache_folder(environment))
    return Settings(values, origins)


def _variable(setting: Setting, environment: Mapping[str, str]) -> str | None:
    """What the environment sets; an empty variable sets no text, as with the AWS command."""
    value = environment.get(setting.variable)
    return None if value == "" and setting.default is None else value


def default_data_folder(environment: Mapping[str, str]) -> Path:
    """`indexer` in the XDG data home."""
    home = environment.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "indexer"


def default_cache_folder(environment: Mapping[str, str]) -> Path:
    """`indexer` in the XDG cache home."""
    home = environment.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "indexer" / "objects"


def _config_file(environment: Mapping[str, str], folder: Path) -> Path | None:
    if named := environment.get("INDEXER_CONFIG"):
        if not Path(named).is_file():
            raise InvalidSetting(f"INDEXER_CONFIG names {named}, and there is no such file.")
        return Path(named)
    home = environment.get("XDG_CONFIG_HOME")
    user = (Path(home) if home else Path.home() / ".config") / "indexer"
    candidates = (place / "indexer.toml" for place in (folder, user))
    return next((path for path in candidates if path.is_file()), None)


def _read(path: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSetting(f"{path} cannot be read: {error}.") from error
    unknown = sorted(document.keys() - {setting.name for setting in SETTINGS})
    if unknown:
        known = ", ".join(setting.name for setting in SETTINGS)
        raise InvalidSetting(f"{path} sets {unknown[0]!r}, which is no setting: {known}.")
    return document
