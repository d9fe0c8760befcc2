"""What every test has: an environment of its own, and real S3 servers when it asks for them.

Invariants
  * No setting, credential or file of the person who runs the tests reaches a test: the variables
    are cleared for the session, and each test has a home folder of its own.
  * A server is started once a session, when first asked for, and ends with the session.
  * A missing server (MinIO, versitygw, fake-gcs-server, nginx, Apache) skips the tests that need it
    at home and fails them where `CI` is set.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import hypothesis
import pytest

from deploy.gcs_server import GCSServer
from deploy.s3_server import Kind, S3Server, ServerError, is_ci
from deploy.web_server import Kind as WebKind
from deploy.web_server import WebServer

# Whoever starts the tests in the background may have Ctrl-C ignored; the programs that the tests
# start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ("tests.store_table",)

MACHINE_ENVIRONMENT: Mapping[str, str] = dict(os.environ)
"""As it was before a test could see it: where servers are looked for."""

IS_CI = is_ci(MACHINE_ENVIRONMENT)

FOREIGN_PREFIXES = (
    *("AWS_", "CLOUDSDK_", "GCE_", "GCLOUD_", "GOOGLE_", "INDEXER_", "MINIO_", "S3_", "STORAGE_"),
    "WANDB_",
)
FOREIGN_NAMES = frozenset(
    {"ALL_PROXY", "BOTO_CONFIG", "FORCE_COLOR", "HTTPS_PROXY", "HTTP_PROXY", "NO_COLOR"}
)
HOMES = {
    "HOME": ".",
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
}

hypothesis.settings.register_profile("quick", max_examples=50, deadline=None)
hypothesis.settings.register_profile(
    "ci", max_examples=300, deadline=None, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("ci" if IS_CI else "quick")


@pytest.fixture(autouse=True, scope="session")
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in MACHINE_ENVIRONMENT:
            if name.startswith(FOREIGN_PREFIXES) or name.upper() in FOREIGN_NAMES:
                patch.delenv(name)
        # Without it botocore asks the address of a cloud's metadata for credentials, and waits.
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        # Google's libraries ask it wherever this says; nobody listens on the discard port.
        patch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
        _move_home(patch, tmp_path_factory.mktemp("home"))
        yield


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home folder, which holds the XDG folders too."""
    folder = tmp_path_factory.mktemp("home")
    _move_home(monkeypatch, folder)
    return folder


def _move_home(patch: pytest.MonkeyPatch, folder: Path) -> None:
    for name, below in HOMES.items():
        patch.setenv(name, str(folder / below))


@pytest.fixture(scope="session")
def minio() -> Iterator[S3Server]:
    """A MinIO of this session."""
    with started("minio") as server:
        yield server


@pytest.fixture
def on_minio(minio: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """MinIO, to which the environment of the test leads."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", minio.endpoint_url)
    return minio


@pytest.fixture(scope="session")
def versitygw() -> Iterator[S3Server]:
    """A gateway of Versity of this session, over a folder."""
    with started("versitygw") as server:
        yield server


def started(kind: Kind) -> S3Server:
    """A server of this kind; the test is skipped, or fails, where there is none."""
    with needed():
        return S3Server.start(kind, environ=MACHINE_ENVIRONMENT)


@contextmanager
def needed() -> Iterator[None]:
    """Where a server cannot be had, the test is skipped, or fails where nobody watches."""
    try:
        yield
    except ServerError as error:
        if IS_CI:
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def fake_gcs() -> Iterator[GCSServer]:
    """A fake-gcs-server of this session."""
    with needed():
        server = GCSServer.start(environ=MACHINE_ENVIRONMENT)
    with server:
        yield server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """A server of moto of this session."""
    with S3Server.start("moto", environ=MACHINE_ENVIRONMENT) as server:
        yield server


@pytest.fixture(scope="session")
def s3_client() -> Callable[[S3Server], Any]:
    """From a server to boto3's client of it, the same one each time."""
    clients: dict[str, Any] = {}

    def client_of(server: S3Server) -> Any:
        if server.endpoint_url not in clients:
            import boto3

            session = boto3.session.Session(
                aws_access_key_id=server.access_key,
                aws_secret_access_key=server.secret_key,
                region_name=server.region,
            )
            clients[server.endpoint_url] = session.client("s3", endpoint_url=server.endpoint_url)
        return clients[server.endpoint_url]

    return client_of


class MakeBucket(Protocol):
    """Makes a bucket of a name never used before, puts objects into it and returns its name."""

    def __call__(
        self,
        server: S3Server,
        objects: Mapping[str, bytes] | None = None,
        *,
        versioned: bool = False,
    ) -> str: ...


@pytest.fixture(scope="session")
def bucket(s3_client: Callable[[S3Server], Any]) -> MakeBucket:
    """Makes buckets, which end with their server."""

    def make(
        server: S3Server,
        objects: Mapping[str, bytes] | None = None,
        *,
        versioned: bool = False,
    ) -> str:
        client = s3_client(server)
        name = f"test-{uuid4().hex}"
        client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        for key, body in (objects or {}).items():
            client.put_object(Bucket=name, Key=key, Body=body)
        return name

    return make


class WebFolder(NamedTuple):
    """A server that shows a folder, and the folder."""

    server: WebServer
    folder: Path


@pytest.fixture(scope="session")
def web_folder(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[WebKind], WebFolder]]:
    """Runs a web server of a kind for this session, the same one each time."""
    with ExitStack() as stack:
        running: dict[str, WebFolder] = {}

        def start(kind: WebKind) -> WebFolder:
            if kind not in running:
                folder = tmp_path_factory.mktemp(kind)
                with needed():
                    server = WebServer.start(kind, folder, environ=MACHINE_ENVIRONMENT)
                running[kind] = WebFolder(stack.enter_context(server), folder)
            return running[kind]

        yield start
