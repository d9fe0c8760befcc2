"""The store of GCS keeps the contract, on a real fake-gcs-server and on the synthetic one."""

from __future__ import annotations

import pytest

from deploy.gcs_server import GCSServer
from indexer.testing.store_suite import Server, StoreSuite
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
