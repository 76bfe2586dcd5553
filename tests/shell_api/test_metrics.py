"""/metrics: figures for whoever may have them, and nobody's name among them."""

import asyncio
import re
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.shell_api.conftest import Api, Seen
from tests.support import LOGINS, World, catalogue, laws
from tidegate.base.when import Instant
from tidegate.connectors.port import Answer, Hold, Probed
from tidegate.evidence.lateness import Latency
from tidegate.flow.governing import put_in_force
from tidegate.flow.revoking import end_early
from tidegate.grant import GrantState
from tidegate.shell.api import make_app
from tidegate.shell.metrics import Metrics


def figures(world: World, metrics: Metrics) -> str:
    """What is shown now."""
    return metrics.render("")[0].decode()


def settle(world: World) -> None:
    """A minute of the worker."""
    for _ in range(12):
        world.clock.forward(seconds=5)
        world.work()


def test_lateness_is_clocked_instead_of_read(world: World) -> None:
    """Another process's end shows here, with the approved end as its start."""
    metrics = Metrics(world.house)
    figures(world, metrics)
    grant = world.granted()
    world.clock.forward(minutes=32)
    settle(world)
    told = figures(world, metrics)
    found = re.search(r'lateness_seconds_sum\{[^}]*latency="removed"[^}]*\} ([0-9.]+)', told)
    assert found and float(found[1]) == pytest.approx(125, abs=5)
    assert 'ended="expired"' in told and 'kind="iam-role"' in told
    assert grant.id not in told


def test_overdue_end_does_not_show(world: World) -> None:
    """An end nobody has taken up yet is in the gauge before it is in any histogram."""
    metrics = Metrics(world.house)
    world.granted()
    world.clock.forward(minutes=35)
    assert "tidegate_oldest_overdue_seconds 300.0" in figures(world, metrics)


def test_figures_name_somebody(world: World) -> None:
    """No id, login, target or address is a label, whatever happened."""
    metrics = Metrics(world.house)
    figures(world, metrics)
    grant = world.granted()
    world.keys(grant)
    world.clock.forward(minutes=31)
    settle(world)
    told = figures(world, metrics)
    values = set(re.findall(r'="([^"]*)"', told))
    assert not values & {*LOGINS, "prod", "prod/admin", grant.principal, grant.id, grant.request}
    assert not any(re.match(r"(gr|rq|pr|se|as)_", value) for value in values)


def test_unreadable_database_hides_every_figure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer says that the database is down, and the journal's size."""
    from tidegate.base.errors import WorldFailed

    metrics = Metrics(world.house)

    def down(*_: object) -> Any:
        raise WorldFailed("database_unreadable", "gone", "look")

    monkeypatch.setattr(world.house.store, "head", down)
    monkeypatch.setattr(world.house.store, "live", down)
    told = figures(world, metrics)
    assert "tidegate_database_up 0.0" in told and "tidegate_journal_bytes" in told


def test_stranger_reads_the_figures(world: World, api: Api) -> None:
    """From elsewhere only an auditor's token opens them; a refusal shows none."""
    assert api.get(None, "/metrics").status_code == 401
    assert api.get("ana", "/metrics").status_code == 403
    answer = api.get("audit", "/metrics")
    assert answer.status_code == 200 and "tidegate_grants" in answer.text


@pytest.mark.parametrize("header", [None, "X-Forwarded-For", "Forwarded", "X-Real-IP"])
@pytest.mark.parametrize("behind", [False, True])
def test_proxy_makes_everybody_local(world: World, header: str | None, behind: bool) -> None:
    """On loopback without a token: only when nothing says that a proxy stands in front."""
    app = make_app(world.house, world.refusals, Seen().insight(), behind_proxy=behind)
    headers = {header: "192.0.2.7"} if header else {}

    async def ask() -> int:
        way = httpx.ASGITransport(app, client=("127.0.0.1", 5000))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=way, base_url="http://here") as client:
            return (await client.get("/metrics", headers=headers)).status_code

    assert asyncio.run(ask()) == (200 if header is None and not behind else 401)


def test_report_is_for_anybody(api: Api) -> None:
    """How late ends were is an auditor's to read; who may not never reaches the report."""
    assert api.get("ana", "/api/report/lateness").status_code == 403
    assert not api.seen.calls
    assert api.get("audit", "/api/report/lateness?since=7d&by=kind").status_code == 200


def latencies(world: World, metrics: Metrics, ended: str) -> dict[str, tuple[int, float]]:
    """Of ends of that sort: (how many, their seconds together) of each latency that is shown."""
    told = figures(world, metrics)
    shown = re.findall(
        r"^tidegate_end_lateness_seconds_(count|sum)\{([^}]*)\} ([0-9.]+)", told, re.M
    )
    found: dict[str, dict[str, float]] = {}
    for what, labels, value in shown:
        label = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if label["ended"] == ended:
            found.setdefault(label["latency"], {})[what] = float(value)
    return {name: (int(one["count"]), one["sum"]) for name, one in found.items()}


@pytest.mark.parametrize("ended", ["expired", "early"])
def test_headline_is_the_queues_own_speed(
    world: World, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    """`denies` is from the end to the first try the cloud itself refused, as heard at the cloud: a
    worker that sleeps for two minutes shows in it, and what it then takes is not the figure.
    """
    metrics, probe, refused = Metrics(world.house), world.connector.probe, list[datetime]()

    def heard(hold: Hold, now: Instant) -> Probed:
        probed = probe(hold, now)
        if (probed.answer, probed.control) == (Answer.DENIED, Answer.ALLOWED):
            refused.append(world.clock())
        return probed

    monkeypatch.setattr(world.connector, "probe", heard)
    figures(world, metrics)
    grant = world.granted()
    world.clock.forward(minutes=10)
    if ended == "early":
        end_early(world.house, world.who("ana"), grant.id)
    end = world.clock() if ended == "early" else grant.ends_at
    assert end is not None
    world.clock.at = end + timedelta(minutes=2)
    settle(world)
    shown = latencies(world, metrics, ended)
    assert {name: count for name, (count, _) in shown.items()} == dict.fromkeys(Latency, 1)
    late = {name: seconds for name, (_, seconds) in shown.items()}
    assert late["denies"] == (refused[0] - end).total_seconds() >= 120
    assert late["sent"] <= late["removed"] <= late["denies"] <= late["gone"]
    if ended == "expired":  # the cloud's own deadline needs nobody: promised, and not mixed with it
        assert late["declared"] == 0


def test_headline_is_of_what_was_never_tried(world: World) -> None:
    """Where nothing can be tried as that access, no `denies` is shown; what is promised is."""
    put_in_force(world.house, laws(found=catalogue(probe="")))
    metrics = Metrics(world.house)
    figures(world, metrics)
    grant = world.granted()
    world.clock.forward(minutes=32)
    for _ in range(6):
        settle(world)
    assert world.grant(grant).state is GrantState.GONE
    shown = latencies(world, metrics, "expired")
    assert "denies" not in shown and shown["declared"][0] == 1
