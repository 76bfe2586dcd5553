"""The oracle calls what it must: access that is kept, forgotten, made twice or left behind."""

import pytest
from chaos.life import Life, Verdict
from chaos.town import Json

from chaos import life


class FakeTown:
    """A town in memory that can misbehave in one way. Ends come at once when nothing is wrong."""

    kind = "permission-set"
    roles = ("prod/admin", "prod/other")

    def __init__(self, wrong: str) -> None:
        self.wrong, self.kills, self.up_again = wrong, 0, 0.0
        self.tickets: dict[str, str] = {}
        self.ended: set[str] = set()
        self.cut = False

    def call(self, person: str, method: str, path: str, body: Json | None = None) -> Json:
        """The API."""
        name = path.rpartition("=")[2]
        if path.startswith("requests?"):
            return {"requests": []}
        if path == "requests":
            assert body is not None
            self.tickets[f"rq_{person}"] = body["ticket"]
            return {"id": f"rq_{person}"}
        if path == "panics":
            if method == "POST":
                self.ended.add(f"rq_{person}")
            return {"panics": [{"swept": self.wrong != "unswept"}]}
        if path.startswith("requests/"):
            return {"state": "approved", "digest": ""}
        if path.endswith("/end"):
            self.ended.add(path.split("/")[1].replace("gr", "rq"))
            return {}
        state = "gone" if name in self.ended else "open"
        if self.wrong == "closing" and state == "gone":
            state = "closing"
        if self.wrong == "failed_unseen":
            return {"grants": []}
        grants = [{"id": name.replace("rq", "gr"), "state": state}]
        return {"grants": grants * (2 if self.wrong == "twice" else 1)}

    def revive(self) -> bool:
        """Nothing dies here; what runs out ends."""
        self.ended.add("rq_cy")
        return False

    def bring_back(self) -> None:
        """A server that was dead closes once more what it knew of."""
        if self.wrong == "cut":
            self.cut = True

    def take(self, person: str, grant: str, role: str) -> str:
        """Keys."""
        return grant.replace("gr", "rq")

    def acts(self, keys: str) -> bool:
        """Until it ended, or for ever."""
        return not self.cut and (keys not in self.ended or self.wrong == "kept")

    def may_sign_in(self, person: str, role: str) -> bool:
        """Not any more, or still."""
        return self.wrong == "standing"


@pytest.mark.parametrize(("wrong", "cut"), [("", 0), ("cut", 2)])
def test_cut_of_later_access_passes(wrong: str, cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that comes back and ends what is held now for what was held then is told of."""
    monkeypatch.setattr(life, "PATIENCE", 0.6)
    monkeypatch.setattr(life, "LOOK", 0.01)
    monkeypatch.setattr(life, "BACK", 0.1)
    town = FakeTown(wrong)
    judged = Life(town, wrong, 1)  # type: ignore[arg-type]
    judged.live()
    town.ended.clear()
    judged.come_back()
    assert (len(judged.verdict.cut), judged.verdict.ok) == (cut, not cut)


@pytest.mark.parametrize(("wrong", "ok"), [("", True), ("unswept", False), ("standing", False)])
def test_panic_that_is_never_over_passes(
    wrong: str, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A life that is ended by a panic is judged as any, and its panic must come to its end."""
    monkeypatch.setattr(life, "PATIENCE", 0.6)
    monkeypatch.setattr(life, "LOOK", 0.01)
    found = Life(FakeTown(wrong), wrong, 1, panics=True).live()  # type: ignore[arg-type]
    assert found.ok == ok
    assert bool(found.lost) == (wrong == "unswept")


def lived(wrong: str, monkeypatch: pytest.MonkeyPatch) -> Verdict:
    """A life in a town that is wrong in that way, with little patience."""
    monkeypatch.setattr(life, "PATIENCE", 0.6)
    monkeypatch.setattr(life, "LOOK", 0.01)
    monkeypatch.setattr(life, "TAKEN", 0.1)
    return Life(FakeTown(wrong), wrong, 1).live()  # type: ignore[arg-type]


def test_sound_life_is_called_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing wrong, nothing told."""
    assert lived("", monkeypatch).ok


@pytest.mark.parametrize(
    ("wrong", "counted"),
    [
        ("kept", "late"),
        ("kept", "orphaned"),
        ("standing", "orphaned"),
        ("closing", "lost"),
        ("failed_unseen", "lost"),
        ("twice", "doubled"),
    ],
)
def test_kept_access_passes(wrong: str, counted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of being wrong is counted under its word."""
    found = lived(wrong, monkeypatch)
    assert not found.ok
    assert getattr(found, counted)
