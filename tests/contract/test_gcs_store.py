"""The store of GCS keeps the contract, on a real fake-gcs-server and on the synthetic one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.gcs_server import GCSServer
from indexer.testing.store_suite import Server, StoreSuite
from indexer.testing.synthetic_gcs import SyntheticGCS
from tests.gcs_api import GCS, GCSApi


class GCSSuite(StoreSuite):
    """What is other than with S3: generations are always there, ETags never told."""

    always_versions = True
    etags_are_md5 = False
    # The suite's own tests of versions are of S3's, with its ids called `null`.
    keeps_versions = False


class TestFakeGCS(GCSSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, fake_gcs: GCSServer) -> Server:
        return GCS(GCSApi(fake_gcs.endpoint_url))


class TestSyntheticGCS(GCSSuite):
    # Names with line feeds and carriage returns.
    refused_max = 3

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[Server]:
        with SyntheticGCS() as server:
            yield GCS(GCSApi(server.endpoint_url))
