"""Signatures are verified: with botocore's own signer as the oracle, and refused when wrong."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.standin.conftest import Scene
from tidegate_standin.signing import HttpRequest, read_scope, signature_of

_NAMES = st.text("abcXYZ019-_.~ /+%é", min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    path=st.text("abX019-_./", max_size=12),
    query=st.dictionaries(_NAMES, _NAMES, max_size=4),
    body=st.binary(max_size=64),
    service=st.sampled_from(["sso", "scheduler", "iam", "s3"]),
    token=st.sampled_from([None, "a/token+with=signs"]),
)
def test_signature_is_the_one_botocore_makes(
    path: str, query: dict[str, str], body: bytes, service: str, token: str | None
) -> None:
    """Whatever the path, the query and the body."""
    request = AWSRequest(
        method="POST", url=f"http://127.0.0.1:9/{path}", params=query, data=body, headers={"A": "b"}
    )
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    signer(Credentials("AKIA", "secret", token), service, "us-east-1").add_auth(request)
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    headers = {name.lower(): _text(value) for name, value in prepared.headers.items()}
    seen = HttpRequest(
        method="POST",
        path=parts.path,
        query=parts.query,
        headers={"host": parts.netloc, **headers},
        body=body,
    )
    scope = read_scope(seen.headers["authorization"])
    assert scope is not None
    assert signature_of(seen, scope, "secret") == scope.signature
    assert signature_of(seen, scope, "secreT") != scope.signature


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize(
    ("keys", "service", "code"),
    [
        (("AKIABROKER", "wrong", None), "sso-admin", "InvalidSignatureException"),
        (("AKIANOBODY", "wrong", None), "sso-admin", "UnrecognizedClientException"),
        (("AKIABROKER", "broker-secret", "x"), "sso-admin", "UnrecognizedClientException"),
        (("AKIABROKER", "wrong", None), "sts", "SignatureDoesNotMatch"),
        (("AKIANOBODY", "wrong", None), "sts", "InvalidClientTokenId"),
    ],
)
def test_wrong_signature_is_refused(
    scene: Scene, keys: tuple[str, str, str | None], service: str, code: str
) -> None:
    """A wrong secret, an unknown key, a token that is not the key's."""
    client = scene.client(service, keys)
    run = client.get_caller_identity if service == "sts" else client.list_instances
    with pytest.raises(ClientError) as refused:
        run()
    assert refused.value.response["Error"]["Code"] == code


def test_unsigned_request_is_refused(scene: Scene) -> None:
    """Without an Authorization header nothing but the portal and the admin API answers."""
    parts = urlsplit(scene.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    headers = {"X-Amz-Target": "SWBExternalService.ListInstances"}
    connection.request("POST", "/", "{}", headers)
    reply = connection.getresponse()
    assert reply.status == 403
    assert b"MissingAuthenticationTokenException" in reply.read()
    connection.close()
