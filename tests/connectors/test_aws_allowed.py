"""What AWS's policy simulator answers, in both of its forms and over pages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.connectors.conftest import START
from tidegate.base.errors import Unknown
from tidegate.connectors.aws_allowed import MOST_PAGES, POWER, Holder, not_allowed, simulated
from tidegate.connectors.aws_calls import Reply
from tidegate.connectors.aws_ground import Ground, needed
from tidegate.connectors.aws_policy import parse_role_arn
from tidegate.connectors.aws_rights import Identity, On

ROLES = tuple(parse_role_arn(f"arn:aws:iam::111122223333:role/{name}") for name in ("a", "b"))
ME = "arn:aws:iam::111122223333:role/TidegateCloser"


class FakeIam:
    """A simulator that allows `allowed(action, resource)`, told in AWS's present form."""

    def __init__(self, allowed: Callable[[str, str], bool], page: int = 100) -> None:
        self.allowed = allowed
        self.page = page
        self.asked: list[Mapping[str, Any]] = []

    def call(self, service: str, act: Callable[[Any], Mapping[str, Any]], what: str) -> Reply:
        """As `Aws.call` does."""
        assert (service, what) == ("iam", "iam:SimulatePrincipalPolicy")
        return Reply(body=act(self), cloud_at=START)

    def simulate_principal_policy(self, **asked: Any) -> Mapping[str, Any]:
        """One page: an aggregate an action, the resources within."""
        self.asked.append(asked)
        first = int(asked.get("Marker", 0))
        actions: Sequence[str] = asked["ActionNames"]
        shown = actions[first : first + self.page]
        more = first + self.page < len(actions)
        results = []
        for action in shown:
            verdicts = [self.allowed(action, arn) for arn in asked["ResourceArns"]]
            apart = [
                {
                    "EvalResourceName": arn,
                    "EvalResourceDecision": "allowed" if yes else "implicitDeny",
                }
                for arn, yes in zip(asked["ResourceArns"], verdicts, strict=True)
            ]
            results.append(
                {
                    "EvalActionName": action,
                    "EvalDecision": "allowed" if all(verdicts) else "implicitDeny",
                    "ResourceSpecificResults": apart,
                }
            )
        last = {"Marker": str(first + self.page)} if more else {}
        return {"EvaluationResults": results, "IsTruncated": more, **last}


def holder(iam: Any, *does: Identity) -> Holder:
    """Somebody who asks `iam`."""
    return Holder(aws=iam, arn=ME, does=does or (Identity.CLOSER,))


def exactly(*does: Identity) -> Callable[[str, str], bool]:
    """The rights of the table, and nothing else."""
    ground = Ground(account="111122223333", roles=tuple(role.text for role in ROLES))
    every = [one for identity in does for one in needed(ground, identity)]
    rights = {one.action for one in every if one.on is On.ROLES}
    looks = {one.action for one in every if one.on in (On.ANY, On.PEOPLE)}

    def allowed(action: str, arn: str) -> bool:
        if arn in ground.roles:
            return action in rights
        return action in looks and (arn == "*" or ":user/" in arn)

    return allowed


def test_missing_right_on_one_of_two_roles_is_found() -> None:
    """The aggregate says no for both; the finding names the one role it is missing on."""
    right = exactly(Identity.CLOSER)
    iam = FakeIam(
        lambda action, arn: (
            right(action, arn) and (action, arn) != ("iam:PutRolePolicy", ROLES[1].text)
        )
    )
    (told,) = not_allowed(holder(iam), ROLES)
    assert (told.code, told.shuts) == ("missing_right", True)
    assert f"`iam:PutRolePolicy` on `{ROLES[1].text}`" in told.message


def test_later_page_is_not_forgotten() -> None:
    """A right missing on the last page is found; pages have an end."""
    right = exactly(Identity.CLOSER)
    iam = FakeIam(lambda action, arn: right(action, arn) and action != "iam:PutRolePolicy", page=1)
    assert {one.code for one in not_allowed(holder(iam), ROLES)} == {"missing_right"}
    endless = FakeIam(lambda *_: True, page=0)
    assert not list(simulated(holder(endless), POWER, ("*",)))
    assert len(endless.asked) == MOST_PAGES


def test_each_identity_is_measured_by_its_own_rights() -> None:
    """What is the opener's alone is excess in the closer, and neither's in one that does both."""
    both = exactly(Identity.OPENER, Identity.CLOSER)
    assert not list(not_allowed(holder(FakeIam(both), *list(Identity)[:2]), ROLES))
    (told,) = not_allowed(holder(FakeIam(both)), ROLES)
    assert (told.code, told.shuts) == ("excess_right", False)
    assert "`sts:AssumeRole`" in told.message and "handed out" in told.message
    opener = list(not_allowed(holder(FakeIam(lambda *_: False), Identity.OPENER), ROLES))
    assert opener and not any(one.shuts for one in opener)


def test_root_is_not_asked_about() -> None:
    """AWS does not simulate the account's root; with no role handed out nothing is asked either."""
    iam = FakeIam(lambda *_: False)
    root = Holder(aws=iam, arn="arn:aws:iam::111122223333:root", does=(Identity.CLOSER,))  # type: ignore[arg-type]
    assert not list(not_allowed(root, ROLES))
    assert not list(not_allowed(holder(iam), ()))
    assert not iam.asked


def test_condition_keys_are_told_to_the_simulator() -> None:
    """A right with a condition can be simulated with what the call itself would carry."""
    iam = FakeIam(lambda *_: True)
    list(simulated(holder(iam), ("iam:PassRole",), ("*",), {"iam:PassedToService": "x"}))
    assert iam.asked[0]["ContextEntries"] == [
        {
            "ContextKeyName": "iam:PassedToService",
            "ContextKeyValues": ["x"],
            "ContextKeyType": "string",
        }
    ]


def test_no_answer_is_told_as_not_known() -> None:
    """A closer that cannot be asked shuts; an opener that cannot does not."""

    class Lost(FakeIam):
        def call(self, service: str, act: Any, what: str) -> Reply:
            raise Unknown("no_answer", "expected an answer, got none", "wait")

    for identity, shuts in ((Identity.CLOSER, True), (Identity.OPENER, False)):
        (told,) = not_allowed(holder(Lost(lambda *_: True), identity), ROLES)
        assert (told.code, told.shuts) == ("rights_untold", shuts)


def test_missing_right_is_told_once_for_every_role() -> None:
    """One action on many roles is one finding, which names the first few and counts the rest."""
    right = exactly(Identity.CLOSER)
    many = [parse_role_arn(f"arn:aws:iam::111122223333:role/r{n}") for n in range(5)]
    handed = {role.text for role in many}
    iam = FakeIam(
        lambda action, arn: (
            right(action, ROLES[0].text if arn in handed else arn) and action != "iam:PutRolePolicy"
        )
    )
    (told,) = not_allowed(holder(iam), many)
    assert told.message.count("iam:PutRolePolicy") == 1
    assert "role/r2` and 2 more" in told.message and "role/r3" not in told.message
