"""Signatures are those that AWS publishes, and those that botocore makes."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import urlsplit

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from indexer.stores.s3_signing import (
    EMPTY_SHA256,
    Signer,
    canonical_query,
    quoted_key,
    signing_key,
)

# The keys of the examples in the documentation of AWS.
EXAMPLE = ReadOnlyCredentials(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None
)
EXAMPLE_AT_S = calendar.timegm((2013, 5, 24, 0, 0, 0))
HOST = "examplebucket.s3.amazonaws.com"


def signature_of(headers: dict[str, str]) -> str:
    return headers["authorization"].rpartition("Signature=")[2]


def test_the_signing_key_of_the_general_reference() -> None:
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    assert signing_key(secret, "20150830", "us-east-1", "iam").hex() == (
        "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
    )


@pytest.mark.parametrize(
    ("method", "key", "query", "more", "body", "signature"),
    [
        (
            *("GET", b"test.txt", [], {"range": "bytes=0-9"}, b""),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            *("PUT", b"test$file.text", []),
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            *("GET", b"", [("lifecycle", "")], {}, b""),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            *("GET", b"", [("prefix", "J"), ("max-keys", "2")], {}, b""),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get an object", "put an object", "get a lifecycle", "list"],
)
def test_the_examples_of_the_api_reference(
    method: str,
    key: bytes,
    query: list[tuple[str, str]],
    more: dict[str, str],
    body: bytes,
    signature: str,
) -> None:
    signed = Signer("us-east-1").headers(
        method,
        "/" + quoted_key(key),
        canonical_query(query),
        {"host": HOST, **more},
        credentials=EXAMPLE,
        at_s=EXAMPLE_AT_S,
        body_sha256=sha256(body).hexdigest(),
    )
    assert signature_of(signed) == signature
    assert signed["x-amz-date"] == "20130524T000000Z"
    scope = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"
    assert signed["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={scope}, Signed")


# --- beside botocore -----------------------------------------------------------------------------


def botocores(
    method: str,
    url: str,
    headers: dict[str, str],
    credentials: ReadOnlyCredentials,
    region: str,
    at: datetime,
) -> dict[str, str]:
    """The headers that botocore sends, names in lower case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda **_: at)
        request = AWSRequest(method=method, url=url, headers=headers)
        auth.S3SigV4Auth(credentials, "s3", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


KEYS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("/.~%+ ?#&=\\\x01\x7f'\"!()*"),
    min_size=1,
    max_size=60,
)
PAIRS = st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=20)), max_size=4)
TOKENS = st.none() | st.text("abc+/=", min_size=1, max_size=40)
VALUES = st.text('ab"-=,/ 0', max_size=20).map(str.strip)
MORE = st.dictionaries(
    st.sampled_from(["range", "if-match", "x-amz-checksum-mode", "x-amz-request-payer"]), VALUES
)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1))  # noqa: DTZ001 - naive by contract


@given(
    key=KEYS, pairs=PAIRS, token=TOKENS, more=MORE, at=TIMES,
    secret=st.text(min_size=1, max_size=9),
    region=st.sampled_from(["us-east-1", "eu-central-1"]), method=st.sampled_from(["GET", "HEAD"]),
)  # fmt: skip
def test_signatures_are_those_of_botocore(
    key: str,
    pairs: list[tuple[str, str]],
    token: str | None,
    more: dict[str, str],
    at: datetime,
    secret: str,
    region: str,
    method: str,
) -> None:
    at = at.replace(tzinfo=UTC)
    credentials = ReadOnlyCredentials("KEY", secret, token)
    path, query = "/bucket/" + quoted_key(key.encode()), canonical_query(pairs)
    url = f"http://host:9000{path}" + (f"?{query}" if query else "")
    # What is signed is what a URL with these parts says.
    assert (urlsplit(url).path, urlsplit(url).query) == (path, query)
    ours = Signer(region).headers(
        method,
        path,
        query,
        {"host": "host:9000", **more},
        credentials=credentials,
        at_s=at.timestamp(),
    )
    theirs = botocores(method, url, more, credentials, region, at)
    assert ours.pop("host") == "host:9000"
    assert ours == theirs


def test_keys_are_encoded_as_botocore_does() -> None:
    every = "".join(map(chr, range(1, 0x250))) + "\U0001f600/~"
    from botocore.utils import percent_encode

    assert quoted_key(every.encode()) == percent_encode(every, safe="/~")


# --- the key that is kept ------------------------------------------------------------------------


def signed_at(signer: Signer, credentials: ReadOnlyCredentials, at_s: float) -> dict[str, str]:
    return signer.headers("GET", "/a", "", {"host": HOST}, credentials=credentials, at_s=at_s)


def test_a_kept_key_is_of_its_day_and_secret() -> None:
    kept = Signer("us-east-1")
    other = ReadOnlyCredentials("OTHER", "other secret", "token")
    midnight_s = float(calendar.timegm((2024, 2, 29, 0, 0, 0)))
    times = (midnight_s - 1, midnight_s - 0.001, midnight_s, midnight_s + 86_400, midnight_s - 1)
    for credentials in (EXAMPLE, other, EXAMPLE):
        for at_s in times:
            anew = signed_at(Signer("us-east-1"), credentials, at_s)
            assert signed_at(kept, credentials, at_s) == anew
    assert signed_at(kept, other, midnight_s - 0.001)["x-amz-date"] == "20240228T235959Z"


def test_what_is_given_is_left_as_it_is() -> None:
    headers = {"host": HOST}
    signed = Signer("us-east-1").headers("GET", "/", "", headers, credentials=EXAMPLE, at_s=0.0)
    assert headers == {"host": HOST}
    assert signed["x-amz-content-sha256"] == EMPTY_SHA256
    assert "x-amz-security-token" not in signed


# --- in the query


def test_the_example_of_a_presigned_url() -> None:
    query = Signer("us-east-1").presigned_query(
        "GET", "/test.txt", [], HOST, credentials=EXAMPLE, at_s=EXAMPLE_AT_S, expires_s=86_400
    )
    assert query.rpartition("X-Amz-Signature=")[2] == (
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@given(
    key=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30),
    version_id=st.none() | st.text("abcXYZ019._-+/=~ ", min_size=1, max_size=20),
    token=st.none() | st.just("session/token+=="),
)
def test_presigned_as_botocore_does(key: str, version_id: str | None, token: str | None) -> None:
    credentials = ReadOnlyCredentials("ACCESS/KEY", "secret", token)
    parameters = [] if version_id is None else [("versionId", version_id)]
    path = "/" + quoted_key(key.encode())
    query = canonical_query(parameters)
    request = AWSRequest("GET", f"https://{HOST}{path}" + (f"?{query}" if query else ""))
    signing = auth.S3SigV4QueryAuth(credentials, "s3", "eu-west-1", expires=600)
    moment = datetime.fromtimestamp(EXAMPLE_AT_S, UTC).replace(tzinfo=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda *_: moment)
        signing.add_auth(request)
    ours = Signer("eu-west-1").presigned_query(
        "GET", path, parameters, HOST, credentials=credentials, at_s=EXAMPLE_AT_S, expires_s=600
    )
    theirs = urlsplit(request.url).query
    assert sorted(ours.split("&")) == sorted(theirs.split("&"))
