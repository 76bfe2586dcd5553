"""A server that has no identity on any cloud: it serves, and says what cannot be done."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.main.conftest import PASSWORD, Home
from tidegate.main.insight import make_insight
from tidegate.main.wiring import start
from tidegate.shell.api.app import make_app

SETTINGS = """
[identity_center]
instance = "arn:aws:sso:::instance/ssoins-7223000000000001"
identity_store = "d-9067000001"

[[target]]
id = "roles"
connector = "aws"
account = "123456789012"
[[target.role]]
name = "admin"
arn = "arn:aws:iam::123456789012:role/admin"

[[target]]
id = "sets"
connector = "aws"
account = "123456789012"
[[target.role]]
name = "admin"
kind = "permission-set"
arn = "arn:aws:sso:::permissionSet/ssoins-7223000000000001/ps-1111111111111111"
"""


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process to which no place gives an AWS identity."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


@pytest.fixture
def server(home: Home, nobody: None) -> Iterator[TestClient[Any]]:
    """The whole of `tidegate serve` but its port."""
    running = start(home.settings(SETTINGS))
    app = make_app(running.house, running.refusals, make_insight(running))
    with TestClient(app) as client:
        yield client
    running.close()


def test_server_without_cloud_keys_is_down_or_silent(server: TestClient[Any]) -> None:
    """It starts, answers and signs people in; doctor names each target it cannot open or close."""
    assert server.get("/health").status_code == 200
    told = server.post("/api/signin", json={"login": "op", "password": PASSWORD})
    assert told.status_code == 201, told.text
    signed = {"Authorization": f"Bearer {told.json()['token']}"}
    findings = server.get("/api/doctor", headers=signed).json()["findings"]
    for target in ("roles", "sets"):
        told_of = [one for one in findings if one["name"] == f"target {target} administrators"]
        assert [one["ok"] for one in told_of] == [None]
        assert "no baseline of who administers account `123456789012`" in told_of[0]["says"]
    for target, part in (("roles", "`[target.aws]`"), ("sets", "`[identity_center]`")):
        ill = [one for one in findings if one["name"] == f"target {target}"]
        assert [one["ok"] for one in ill] == [False]
        assert "nothing can be opened or closed there" in ill[0]["says"]
        assert "nothing opens" in ill[0]["fix"] and part in ill[0]["fix"]
