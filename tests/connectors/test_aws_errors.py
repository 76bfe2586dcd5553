"""What a failing call means: certainly nothing, certainly not reached, or not known."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.connectors.conftest import AwsWorld, hold_of, real_now
from tidegate.base.errors import Refused, Unknown, Unreachable, WorldFailed
from tidegate.catalogue import Role, Target
from tidegate.connectors.aws import AwsConnector, AwsSettings
from tidegate.connectors.aws_calls import CloudNo, answered, cloud_date, unanswered
from tidegate.connectors.aws_health import certificate_until
from tidegate.connectors.port import Cut, Hold
from tidegate.connectors.sandbox import ACCOUNT, free_port

ARN = f"arn:aws:iam::{ACCOUNT}:role/admin"
TARGET = Target(id="aws-prod", connector="aws", account=ACCOUNT)
ROLE = Role(id="aws-prod/admin", kind="iam-role", native={"arn": ARN}, probe="iam:ListUsers")
SETTINGS = AwsSettings(
    region="us-east-1",
    access_key_id="AKIDEXAMPLE",
    secret_access_key="not-to-be-seen",
    connect_timeout=timedelta(seconds=0.5),
    read_timeout=timedelta(seconds=0.5),
)


def at(port: int) -> AwsConnector:
    """A connector whose AWS is `port` on this machine."""
    settings = replace(SETTINGS, endpoint_url=f"http://127.0.0.1:{port}")
    return AwsConnector({"aws-prod": settings})


def hold() -> Hold:
    """A hold that lasts ten minutes."""
    now = real_now()
    return hold_of(TARGET, ROLE, now, now + timedelta(minutes=10))


@contextmanager
def serving(act: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port where each connection gets `act`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def loop() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                act(peer)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


VERBS: dict[str, Callable[[AwsConnector, Hold], Any]] = {
    "grant": lambda aws, one: aws.grant(one, real_now()),
    "issue": lambda aws, one: aws.issue(one, "se_1", real_now()),
    "revoke": lambda aws, one: aws.revoke(one, real_now()),
    "revoke_late": lambda aws, one: aws.revoke(one, one.ends_at),
    "probe": lambda aws, one: aws.probe(one, real_now()),
    "mend": lambda aws, one: aws.mend(
        TARGET, ROLE, {one.grant: Cut(until=one.ends_at)}, real_now()
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_dead_port_is_unreachable(verb: str) -> None:
    """Nobody listens: certainly nothing happened."""
    with pytest.raises(Unreachable) as lost:
        VERBS[verb](at(free_port()), hold())
    assert lost.value.code == "cloud_unreachable"


@pytest.mark.parametrize("verb", ["issue", "revoke"])
def test_black_hole_is_unknown(verb: str) -> None:
    """A server that takes the request and never answers: it may have acted."""
    kept: list[socket.socket] = []
    with serving(kept.append) as port, pytest.raises(Unknown) as lost:
        VERBS[verb](at(port), hold())
    assert lost.value.code == "no_answer"


@pytest.mark.parametrize("verb", ["revoke", "mend"])
def test_answer_without_a_date_decides_nothing(verb: str) -> None:
    """No Date, no cloud's clock: ours never stands in for it."""

    def undated(peer: socket.socket) -> None:
        peer.recv(65_536)
        body = b"<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>"
        head = b"HTTP/1.1 404 X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        peer.sendall(head + body)
        peer.close()

    with serving(undated) as port, pytest.raises(Unknown) as lost:
        VERBS[verb](at(port), hold())
    assert lost.value.code == "no_cloud_date"


def test_connection_closed_after_sending_is_unknown() -> None:
    """The request was read and the line cut: it may have acted."""

    def swallow(peer: socket.socket) -> None:
        peer.recv(65_536)
        peer.close()

    with serving(swallow) as port, pytest.raises(Unknown):
        VERBS["issue"](at(port), hold())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (
            b"<ErrorResponse><Error><Code>InternalFailure</Code></Error></ErrorResponse>",
            "cloud_error",
        ),
        (b"oops", "no_answer"),
    ],
)
def test_server_error_is_unknown_and_sent_once(body: bytes, code: str) -> None:
    """A 500 may hide an effect, whether it can be read or not; it is not tried again unseen."""
    asked: list[bytes] = []

    def fail(peer: socket.socket) -> None:
        asked.append(peer.recv(65_536))
        head = b"HTTP/1.1 500 X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        peer.sendall(head + body)
        peer.close()

    with serving(fail) as port, pytest.raises(Unknown) as lost:
        VERBS["grant"](at(port), hold())
    assert lost.value.code == code
    assert len([one for one in asked if one]) == 1


def test_wrong_keys_are_refused_without_telling_them(aws: AwsWorld) -> None:
    """Keys AWS does not know: refused, in words without the secret or AWS's own text."""
    settings = replace(SETTINGS, endpoint_url=aws.settings.endpoint_url)
    with pytest.raises(Refused) as refused:
        AwsConnector({"aws-prod": settings}).issue(hold(), "se_1", real_now())
    assert refused.value.code == "access_denied"
    assert "not-to-be-seen" not in str(refused.value) + refused.value.help
    assert "AKIDEXAMPLE" not in str(refused.value)


def test_health_of_a_dead_port_is_a_finding() -> None:
    """Health never raises: what cannot be reached is what it is for."""
    health = at(free_port()).health(TARGET, real_now())
    assert not health.reached
    assert health.cloud_at is None
    assert "EndpointConnectionError" in health.findings[0].message


def test_health_without_settings_is_a_finding() -> None:
    """A target nobody configured is told the same way."""
    assert AwsConnector({}).health(TARGET, real_now()).findings[0].code == "no_settings"
    with pytest.raises(Refused):
        AwsConnector({}).issue(hold(), "se_1", real_now())


def test_health_of_a_malformed_role_is_a_finding() -> None:
    """Neither is a bad setting an exception."""
    settings = replace(SETTINGS, handed=("nonsense",))
    health = AwsConnector({"aws-prod": settings}).health(TARGET, real_now())
    assert "role ARN" in health.findings[0].message


@pytest.mark.parametrize(
    ("code", "http", "kind", "told"),
    [
        ("Throttling", 400, Refused, "throttled"),
        ("SlowDown", 503, Refused, "throttled"),
        ("Whatever", 429, Refused, "throttled"),
        ("ServiceUnavailable", 503, Unknown, "cloud_error"),
        ("InternalFailure", 500, Unknown, "cloud_error"),
        ("AccessDenied", 403, Refused, "access_denied"),
        ("", 403, Refused, "access_denied"),
        ("NoSuchEntity", 404, Refused, "not_there"),
        ("LimitExceeded", 409, Refused, "limit_exceeded"),
        ("PackedPolicyTooLarge", 400, Refused, "packed_policy_too_large"),
        ("MalformedPolicyDocument", 400, Refused, "cloud_refused"),
    ],
)
def test_error_answers_are_mapped(code: str, http: int, kind: type[WorldFailed], told: str) -> None:
    """By AWS's code and by HTTP status."""
    secret = "arn-and-secret-in-the-text"
    response = {
        "Error": {"Code": code, "Message": secret},
        "ResponseMetadata": {"HTTPStatusCode": http, "HTTPHeaders": {}},
    }
    error = answered(response, "iam:GetRole")
    assert isinstance(error, kind)
    assert error.code == told
    assert secret not in error.message + error.help


def test_expired_keys_count_as_denied_and_unknown_keys_do_not() -> None:
    """Only a policy or an expiry refuses an access; unknown keys say nothing about it."""

    def no(code: str) -> CloudNo:
        meta = {"HTTPStatusCode": 403, "HTTPHeaders": {}}
        error = answered({"Error": {"Code": code}, "ResponseMetadata": meta}, "iam:ListUsers")
        assert isinstance(error, CloudNo)
        return error

    assert no("ExpiredToken").denied and no("AccessDenied").denied
    assert not no("InvalidClientTokenId").denied and not no("SignatureDoesNotMatch").denied


def test_tls_failure_is_not_taken_for_unsent() -> None:
    """A TLS stream may break after the request went out."""
    from botocore.exceptions import SSLError

    broken = SSLError(endpoint_url="https://example.invalid", error="x")
    assert isinstance(unanswered(broken, "iam:GetRole"), Unknown)


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Nov 2026 20:56:36 GMT"])
def test_unreadable_date_is_none(date: str) -> None:
    """A date that cannot be read is never guessed."""
    assert cloud_date({"ResponseMetadata": {"HTTPHeaders": {"date": date}}}) is None


def test_certificate_of_an_endpoint() -> None:
    """No certificate over http; one that cannot be read is words, not an exception."""
    assert certificate_until("http://127.0.0.1:1") == (None, "")
    until, trouble = certificate_until(f"https://127.0.0.1:{free_port()}")
    assert until is None
    assert "ConnectionRefusedError" in trouble


def test_answer_without_its_parts_is_unknown() -> None:
    """A 200 that somebody else gave in AWS's place is not read as a success."""

    def lie(peer: socket.socket) -> None:
        peer.recv(65_536)
        body = b"<AssumeRoleResponse><AssumeRoleResult/></AssumeRoleResponse>"
        head = b"HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 20:56:36 GMT\r\nConnection: close\r\n"
        peer.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        peer.close()

    with serving(lie) as port, pytest.raises(Unknown) as lost:
        VERBS["issue"](at(port), hold())
    assert lost.value.code == "bad_answer"
