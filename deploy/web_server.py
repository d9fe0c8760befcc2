"""Finds a web server that shows folders, and runs it on loopback while its owner lives.

    with WebServer.start("nginx", folder) as server:
        server.urls                     # the folder's address, by the format of its index pages

Invariants
  * nginx and Apache are those that `NGINX_BIN` and `APACHE_BIN` name, those on PATH, or Debian's
    packages: downloaded once, unpacked into the user's cache folder, and run from there. No root is
    needed, and nothing is installed.
  * They are told all that they need on their command line: no configuration of the machine is read.
  * Only the standard library of a POSIX Python is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from deploy.processes import (
    HOST,
    Environment,
    KeptServer,
    Program,
    ServerError,
    attempt,
    say,
    start,
)

Kind = Literal["nginx", "apache", "python"]

DOWNLOAD_TIMEOUT_S: Final = 120.0
PROBE_TIMEOUT_S: Final = 20.0

SYSTEM_FOLDERS: Final = "/usr/sbin:/usr/local/sbin"
"""Where servers are that a user's PATH does not have."""

APACHE_MODULES: Final = ("mpm_event", "authz_core", "alias", "autoindex", "dir", "mime")


@dataclass(frozen=True, slots=True)
class DebianProgram:
    """A program in Debian's packages: `binary` is its path in them, `variable` may name another."""

    name: str
    packages: tuple[str, ...]
    binary: str
    variable: str

    def find(self, environ: Environment) -> tuple[str, str]:
        """The program, and where it is from.

        Raises:
            ServerError: there is none, and the packages cannot be had.
        """
        given = environ.get(self.variable)
        if given:
            found = shutil.which(given, path=environ.get("PATH"))
            if found is None:
                raise ServerError(f"{self.variable} is {given}, which is missing or cannot be run.")
            return found, self.variable
        path = f"{environ.get('PATH', '')}:{SYSTEM_FOLDERS}"
        if found := shutil.which(Path(self.binary).name, path=path):
            return found, "PATH"
        kept = self._folder(environ)
        if not (kept / self.binary).exists():
            self._download(kept, environ)
        return str(kept / self.binary), "the cache folder"

    def _folder(self, environ: Environment) -> Path:
        home = environ.get("HOME") or Path("~").expanduser()
        cache = environ.get("XDG_CACHE_HOME") or Path(home, ".cache")
        return Path(cache, "bucket-indexer", f"{self.name}-debian")

    def _download(self, kept: Path, environ: Environment) -> None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f"{kept.name}.", dir=kept.parent))
        try:
            say(f"Downloading {self.name} from Debian's packages, once.")
            get = ["sh", "-c", 'cd "$0" && exec apt-get download "$@"', str(making), *self.packages]
            done, said = attempt(get, environ, DOWNLOAD_TIMEOUT_S)
            for package in making.glob("*.deb"):
                done = (
                    done
                    and attempt(
                        ["dpkg", "-x", str(package), str(making)], environ, DOWNLOAD_TIMEOUT_S
                    )[0]
                )
                package.unlink()
            if not done or not (making / self.binary).exists():
                raise ServerError(
                    f"No {self.name} can be had here: {self.variable} is not set, there is none on "
                    f"PATH, and Debian's packages cannot be downloaded ('apt-get update' may help)."
                    f"\n{said}"
                )
            if not kept.exists():
                making.rename(kept)
        except OSError as error:
            # Another process was faster; what it made is as good.
            if not (kept / self.binary).exists():
                raise ServerError(f"{self.name} cannot be kept in {kept}: {error}.") from error
        finally:
            shutil.rmtree(making, ignore_errors=True)


NGINX: Final = DebianProgram("nginx", ("nginx",), "usr/sbin/nginx", "NGINX_BIN")
APACHE: Final = DebianProgram(
    "apache", ("apache2-bin", "libapr1", "libaprutil1"), "usr/sbin/apache2", "APACHE_BIN"
)


@dataclass(frozen=True, slots=True)
class WebServer(KeptServer):
    """A running server; close it with `stop()`, or use it as a context manager.

    `urls` are the addresses of its folder, each with another format of index pages.
    """

    kind: Kind
    urls: Mapping[str, str]
    pid: int
    _keeper: subprocess.Popen[str]

    @classmethod
    def start(cls, kind: Kind, folder: Path, *, environ: Environment | None = None) -> Self:
        """Starts a server that shows a folder, and returns when it answers.

        Raises:
            ServerError: none can be had, or it does not answer.
        """
        environ = dict(os.environ) if environ is None else environ
        program, paths = _PROGRAMS[kind](folder.resolve(), environ)
        running = start(program, folder, environ)
        root = f"http://{HOST}:{running.port}"
        urls = {name: root + path for name, path in paths.items()}
        return cls(kind, urls, running.pid, running.keeper)


def _nginx(folder: Path, environ: Environment) -> tuple[Program, dict[str, str]]:
    binary, origin = NGINX.find(environ)
    paths = {"html": "/html/", "json": "/json/", "bare": "/bare/"}

    def command(port: int, _data: Path) -> list[str]:
        places = " ".join(f"{name}_temp_path {name};" for name in _NGINX_FOLDERS)
        shown = f'alias "{folder}/"; autoindex on;'
        configuration = (
            "daemon off; master_process off; pid nginx.pid; events { worker_connections 512; } "
            f"http {{ access_log off; {places} default_type application/octet-stream; "
            f"server {{ listen {HOST}:{port}; "
            f"location = / {{ return 200; }} "
            f"location /html/ {{ {shown} }} "
            f"location /json/ {{ {shown} autoindex_format json; }} "
            f"location /bare/ {{ {shown} etag off; }} "
            "} }"
        )
        return _configured(binary, configuration, "-p . -e stderr -c server.conf")

    return Program("nginx", _version(binary, "-v"), origin, command, {}, "/"), paths


_NGINX_FOLDERS: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def _apache(folder: Path, environ: Environment) -> tuple[Program, dict[str, str]]:
    binary, origin = APACHE.find(environ)
    base = Path(binary).parent.parent
    libraries = sorted({str(found.parent) for found in base.glob("lib/*/libapr-1.so.0")})
    modules = next((at for at in base.glob("lib*/apache2/modules")), base / "modules")
    options = {
        "plain": "None",
        "pre": "FancyIndexing",
        "table": "FancyIndexing HTMLTable IconsAreLinks XHTML",
    }
    paths = {name: f"/{name}/" for name in options}

    def command(port: int, _data: Path) -> list[str]:
        lines = [
            *(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in APACHE_MODULES),
            f"Listen {HOST}:{port}",
            f"ServerName {HOST}",
            "DefaultRuntimeDir .",
            "PidFile apache.pid",
            "Mutex pthread",
            "ErrorLog /dev/stderr",
            f"TypesConfig {os.devnull}",
            f'DocumentRoot "{folder}"',
            "<Directory />",
            "Options Indexes FollowSymLinks",
            "Require all granted",
            "</Directory>",
            "<Location />",
            "DirectoryIndex disabled",
            "</Location>",
        ]
        for name, chosen in options.items():
            lines += [
                f'Alias /{name}/ "{folder}/"',
                f"<Location /{name}/>",
                f"IndexOptions {chosen}",
                "</Location>",
            ]
        return _configured(binary, "\n".join(lines), '-X -d . -f "$PWD/server.conf"')

    environment = {"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}
    version = _version(binary, "-v", environment)
    return Program("apache", version, origin, command, environment, "/"), paths


def _python(folder: Path, _environ: Environment) -> tuple[Program, dict[str, str]]:
    def command(port: int, _data: Path) -> list[str]:
        server = [sys.executable, "-m", "http.server", str(port), "--bind", HOST]
        return [*server, "--directory", str(folder)]

    program = Program("python", sys.version.split()[0], sys.prefix, command, {}, "/")
    return program, {"python": "/"}


_PROGRAMS: Final = {"nginx": _nginx, "apache": _apache, "python": _python}


def _configured(binary: str, configuration: str, options: str) -> list[str]:
    """Runs a program with a file of configuration, which goes with the folder of its keeper."""
    run = f'printf "%s\\n" "$1" >server.conf && exec "$0" {options}'
    return ["sh", "-c", run, binary, configuration]


def _version(binary: str, option: str, environment: Environment | None = None) -> str:
    done, said = attempt([binary, option], {**(environment or {})}, PROBE_TIMEOUT_S)
    if not done:
        raise ServerError(f"{binary} does not run:\n{said}")
    return said.partition("/")[2].split()[0]
