"""Decisions: one rule alone carries, any forbid wins, any doubt is a no."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.asking import DEV, HOUR, PROD, ask, examples, forbid, permit, verdict
from tidegate.catalogue import Target
from tidegate.policy.decide import decide
from tidegate.policy.rules import load_rules

# Well typed, so it loads; at one hour the product leaves 64 bits, so it fails when evaluated.
OVERFLOWS = "context.duration_seconds * 9223372036854775807 > 0"
FRIDAY = datetime(2026, 11, 27, 16, 30, tzinfo=UTC)


def test_example_permits_with_its_own_terms() -> None:
    """The carrier, its requirement and its maximum come from the same rule."""
    found = verdict(examples())
    assert (
        found.allowed,
        found.carrier,
        found.rules,
        found.code,
    ) == (True, "prod-admin", ("prod-admin",), "allowed")
    assert found.requirement is not None
    assert (found.requirement.text, found.max) == ("2 of group:sre-leads", 2 * HOUR)


@pytest.mark.parametrize(
    "changes",
    [
        {"ticket": None},
        {"ticket": ""},
        {"ticket": "CHG-1"},
        {"groups": frozenset()},
        {"groups": frozenset({"SRE"})},
        {"role": "aws-dev/admin", "target": DEV},
    ],
)
def test_what_no_rule_permits_is_refused(changes: dict[str, object]) -> None:
    """Without the ticket, the group or the target of the rule there is no rule."""
    found = verdict(examples(), **changes)
    assert (
        found.allowed,
        found.code,
        found.carrier,
        found.requirement,
        found.rules,
    ) == (False, "no_rule", "", None, ())


TICKET = "context has ticket"
OF_SRE = 'action == Action::"request", resource in Target::"aws-prod"'


def only(who: str, what: str = OF_SRE) -> str:
    """A permit for `who` that wants a ticket."""
    head = '@id("a") @max("2h") @approve("none")'
    return f"{head}\npermit ({who}, {what}) when {{ {TICKET} }};"


@pytest.mark.parametrize(
    "rules",
    [
        permit("a", when=TICKET),
        permit("a", when=f'{TICKET} && context.ticket like "INC-*"'),
        permit("a", scope='resource in Label::"env=prod"', when=TICKET),
        only('principal in Group::"sre"'),
        only('principal == Principal::"pr_ana"'),
    ],
)
def test_missing_ticket_is_named(rules: str) -> None:
    """Where a rule about just this ask wants a ticket, the refusal says which option to add."""
    found = verdict(rules, ticket=None)
    assert found.why == (
        "no rule permits this request as asked; some rules here want a ticket: add --ticket"
    )
    assert (found.code, found.rules) == ("no_rule", ())
    assert "ticket" not in verdict(rules.replace("like", "!="), ticket="CHG-1").why


@pytest.mark.parametrize(
    "rules",
    [
        "",
        permit("a", when="context.hour == 3"),
        only('principal in Group::"contractors"'),
        only('principal == Principal::"pr_bo"'),
        only("principal", 'action == Action::"request", resource in Target::"aws-dev"'),
        only("principal", 'action == Action::"emergency", resource'),
        permit("a", when=f'{TICKET} && principal in Group::"contractors"'),
        permit("a", when=f'{TICKET} && resource == Role::"aws-dev/admin"'),
        forbid("a", when=f"{TICKET} && context.hour == 3"),
    ],
)
def test_rule_of_others_shows_through_a_refusal(rules: str) -> None:
    """Whether others could come in with a ticket is not said to who cannot."""
    why = verdict(rules, ticket=None).why
    assert why == "no rule permits this request as asked; ask who looks after this target"


def test_empty_set_refuses_everything() -> None:
    """No rules, no access."""
    assert verdict("").code == "no_rule"


def test_friday_night_is_of_the_end_in_the_time_zone_of_the_target() -> None:
    """The end of the window decides, by the clock where the target is."""
    assert verdict(examples(), start=FRIDAY).allowed
    assert verdict(examples(), start=FRIDAY, duration=2 * HOUR).code == "forbidden"
    berlin = Target(id="aws-prod", connector="aws", account="1", time_zone="Europe/Berlin",
                    labels=("env=prod",))  # fmt: skip
    found = verdict(examples(), start=FRIDAY, target=berlin)
    assert (found.allowed, found.code, found.rules) == (False, "forbidden", ("no-friday-nights",))
    assert "`no-friday-nights`" in found.why


def test_window_that_crosses_midnight_has_two_weekdays() -> None:
    """Start and end each have their own day and hour."""
    rules = permit("a", when="context.weekday == 2 && context.hour == 23 && "
                             "context.end_weekday == 3 && context.end_hour == 0")  # fmt: skip
    assert verdict(rules, start=datetime(2026, 11, 24, 23, 30, tzinfo=UTC)).allowed


def test_start_is_read_by_the_clock_of_the_target() -> None:
    """Noon in UTC is one o'clock in Berlin, and late evening already tomorrow in Auckland."""
    rules = permit("a", when="context.hour == 13") + permit("b", when="context.weekday == 3")
    for zone, carrier in (("UTC", ""), ("Europe/Berlin", "a"), ("Pacific/Auckland", "b")):
        target = Target(id="aws-prod", connector="aws", account="1", time_zone=zone)
        assert carrier == verdict(rules, target=target).carrier


def test_emergency_is_its_own_action() -> None:
    """A permit for requests permits no emergency, and the other way round."""
    assert verdict(examples(), emergency=True).carrier == "break-glass"
    assert verdict(permit("a"), emergency=True).code == "no_rule"
    both = permit("a", when="context.emergency").replace(
        '== Action::"request"', 'in [Action::"request", Action::"emergency"]'
    )
    assert verdict(both, emergency=True).allowed
    assert not verdict(both).allowed


def test_longest_maximum_never_leaks_to_another_rule() -> None:
    """Eight hours on one target, or under an approval, are not eight hours elsewhere."""
    assert (
        verdict(
            permit("dev", "8h", scope='resource in Target::"aws-dev"')
            + permit("prod", "1h", scope='resource in Target::"aws-prod"'),
            duration=4 * HOUR,
        ).code
        == "too_long"
    )
    rules = permit("short", "1h") + permit("with-leads", "8h", "2 of group:leads")
    found = verdict(rules, duration=4 * HOUR)
    assert found.requirement is not None
    assert (found.carrier, found.requirement.text) == ("with-leads", "2 of group:leads")
    assert found.rules == ("short", "with-leads")
    assert verdict(rules).carrier == "short"


def test_too_long_says_the_longest() -> None:
    """The refusal names what may be asked for instead."""
    found = verdict(permit("a", "1h") + permit("b", "3h"), duration=4 * HOUR)
    assert (
        found.allowed,
        found.code,
        found.max,
        found.rules,
    ) == (False, "too_long", 3 * HOUR, ("a", "b"))
    assert found.why == "rule `b` allows at most 3h of `aws-prod/admin`, got 4h"
    assert None is found.requirement


def test_maximum_is_exact_to_the_fraction() -> None:
    """The maximum itself passes, a millisecond more does not, nor past a limit in the rule."""
    more = timedelta(milliseconds=1)
    assert verdict(permit("a", "1h")).allowed
    assert verdict(permit("a", "1h"), duration=HOUR + more).code == "too_long"
    in_rule = permit("a", "2h", when="context.duration_seconds <= 3600")
    assert verdict(in_rule).allowed
    assert not verdict(in_rule, duration=HOUR + more).allowed


def test_carrier_is_mildest_then_shortest_then_first() -> None:
    """Fewest votes, then the shortest maximum, then the id."""
    rules = [
        permit("d", "2h", "1 of group:x"),
        permit("c", "4h", "1 of group:x"),
        permit("a-longer", "4h", "1 of group:x"),
        permit("b", "2h", "1 of group:x"),
        permit("a", "2h", "1 of group:x and 1 of group:y"),
    ]
    assert verdict("".join(rules)).carrier == "b"
    assert verdict("".join(rules) + permit("none-needed", "9h")).carrier == "none-needed"


def test_any_forbid_wins() -> None:
    """However many rules permit it, and all forbids are named."""
    found = verdict(permit("a") + forbid("z") + forbid("y", when="context.hour == 12"))
    assert (found.code, found.rules) == ("forbidden", ("y", "z"))
    assert found.why == "rules `y`, `z` forbid `aws-prod/admin` here"


def test_forbid_that_fails_to_evaluate_refuses() -> None:
    """The engine skips a forbid whose evaluation fails and answers Allow; that is a no here."""
    found = verdict(permit("a") + forbid("broken", when=OVERFLOWS))
    assert (found.allowed, found.code, found.rules) == (False, "rule_error", ("broken",))
    assert "rule `broken` could not be evaluated: integer overflow" in found.why
    assert "3600" not in found.why


def test_permit_that_fails_to_evaluate_refuses() -> None:
    """A failing permit beside a good one is a no, and alone it is not called `no_rule`."""
    broken = permit("broken", when=OVERFLOWS)
    assert verdict(permit("a") + broken).code == "rule_error"
    assert verdict(broken).code == "rule_error"
    assert verdict(permit("a") + broken + forbid("z")).code == "forbidden"


def test_question_that_does_not_fit_the_schema_refuses() -> None:
    """A context of a wrong type is no decision at all, and the schema is always there to see it."""
    found = verdict(permit("a") + forbid("f", when='context has ticket && context.ticket == "x"'),
                    ticket=4711)  # fmt: skip
    assert (found.allowed, found.code, found.rules) == (False, "rule_error", ())


def test_forbid_on_a_group_reached_through_others_holds() -> None:
    """Nested membership counts whether the closure, only the links, or a broken chain is given."""
    rules = permit("a") + forbid("f", who='principal in Group::"contractors"')
    links = {"sre": ("vendor",), "vendor": ("contractors",)}
    closure = frozenset({"sre", "vendor", "contractors"})
    assert verdict(rules).allowed
    assert verdict(rules, groups=closure, group_parents=links).code == "forbidden"
    assert verdict(rules, group_parents=links).code == "forbidden"
    assert verdict(rules, groups=closure, group_parents={}).code == "forbidden"


def test_groups_that_contain_each_other_are_all_held() -> None:
    """A circle of groups turns no forbid off, and permits as any group does."""
    rules = permit("a") + forbid("f", who='principal in Group::"contractors"')
    circle = {"sre": ("vendor",), "vendor": ("sre", "vendor")}
    assert verdict(rules, group_parents=circle).allowed
    circle["vendor"] = ("sre", "contractors")
    assert verdict(rules, group_parents=circle).code == "forbidden"


@pytest.mark.parametrize(
    "scope",
    [
        'resource in Label::"env=prod"',
        'resource in Label::"tier=1"',
        'resource in Target::"aws-prod"',
        'resource in Role::"aws-prod/admin"',
        'resource == Role::"aws-prod/admin"',
        "resource is Role",
        'resource is Role in Label::"env=prod"',
        "resource",
    ],
)
def test_forbid_holds_through_every_kind_of_scope(scope: str) -> None:
    """In the scope or in the condition, each ancestor of the role is there to be matched."""
    assert verdict(permit("a") + forbid("f", scope=scope)).code == "forbidden"
    if scope != "resource":
        assert verdict(permit("a") + forbid("f", when=scope)).code == "forbidden"
    other = verdict(permit("a") + forbid("f", scope=scope), role="aws-dev/admin", target=DEV)
    assert other.allowed is (scope not in ("resource", "resource is Role"))


def test_membership_lost_after_approval_is_seen_when_asked_again() -> None:
    """The same ask without the group, at opening, is refused."""
    rules = examples()
    assert decide(rules, ask()).allowed
    assert decide(rules, ask(groups=frozenset({"engineers"}))).code == "no_rule"


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "", "..", "America", "/etc/passwd", "a\0b", "x" * 9999]
)
def test_unknown_time_zone_refuses(zone: str) -> None:
    """Without local hours no rule about hours can be trusted."""
    target = Target(id="aws-prod", connector="aws", account="1", time_zone=zone)
    assert verdict(permit("a"), target=target).code == "rule_error"


def test_window_past_the_calendar_refuses() -> None:
    """A start in the year 9999 gets an answer, not a crash."""
    late = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    assert verdict(permit("a"), start=late).code == "rule_error"


def test_odd_names_are_names_and_nothing_more() -> None:
    """Quotes, line breaks and Cedar text in ids and tickets are data."""
    nasty = 'x", y]) \\ \n permit(principal, action, resource); //'
    rules = permit("a", when='context has ticket && context.ticket like "INC-*"')
    assert (
        verdict(rules, ticket=nasty, principal=nasty, groups=frozenset({nasty})).code == "no_rule"
    )
    assert verdict(rules, ticket="INC-" + nasty, principal=nasty).allowed


def test_misuse_is_a_bug_not_a_verdict() -> None:
    """A role of another target or an empty window never comes this far."""
    with pytest.raises(RuntimeError):
        verdict(permit("a"), role="aws-dev/admin")
    with pytest.raises(RuntimeError):
        verdict(permit("a"), duration=timedelta(seconds=-1))


def test_handles_are_bounded_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """More targets than the cache holds still get the same answers."""
    monkeypatch.setattr("tidegate.policy.engine.MOST_HELD", 5)
    rules = load_rules({"a.cedar": "".join(
        permit(f"t{number}", scope=f'resource in Target::"t{number}"') for number in range(20)
    )})  # fmt: skip
    for number in (*range(20), *range(20)):
        target = Target(id=f"t{number}", connector="aws", account="1")
        assert f"t{number}" == verdict(rules, role=f"t{number}/a", target=target).carrier


SCOPES = ("resource", 'resource in Target::"aws-prod"', 'resource in Label::"env=dev"',
          'resource == Role::"aws-prod/admin"')  # fmt: skip
WHENS = ("", "context.hour == 12", "context has ticket", OVERFLOWS, 'principal in Group::"sre"')
PERMITS = st.tuples(
    st.sampled_from(["30m", "1h", "2h"]),
    st.sampled_from(["none", "1 of group:x", "2 of group:x"]),
    st.sampled_from(SCOPES),
    st.sampled_from(WHENS),
)
FORBIDS = st.tuples(
    st.sampled_from(["principal", 'principal in Group::"sre"', 'principal in Group::"ops"']),
    st.sampled_from(SCOPES),
    st.sampled_from(WHENS),
)
ASKS = st.fixed_dictionaries(
    {
        "duration": st.sampled_from([HOUR / 2, HOUR, 3 * HOUR]),
        "groups": st.sampled_from([frozenset[str](), frozenset({"sre"})]),
        "group_parents": st.sampled_from([{}, {"sre": ("ops",)}]),
        "ticket": st.sampled_from([None, "INC-1"]),
        "target": st.sampled_from([PROD, DEV]),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PERMITS, max_size=4), st.lists(FORBIDS, max_size=2), FORBIDS, ASKS)
def test_another_forbid_never_opens_anything(
    permits: list[tuple[str, ...]],
    forbids: list[tuple[str, ...]],
    more: tuple[str, ...],
    given_ask: dict[str, object],
) -> None:
    """A refused ask stays refused, and an allowed one keeps its carrier or is refused."""
    target = given_ask["target"]
    assert isinstance(target, Target)
    asked = {**given_ask, "role": f"{target.id}/admin"}
    text = "".join(permit(f"p{number}", *parts) for number, parts in enumerate(permits))
    text += "".join(forbid(f"f{number}", *parts) for number, parts in enumerate(forbids))
    before, after = verdict(text, **asked), verdict(text + forbid("more", *more), **asked)
    assert before.allowed or not after.allowed
    assert not after.allowed or after == before


@settings(max_examples=60, deadline=None)
@given(st.lists(PERMITS, min_size=1, max_size=5), st.randoms(), ASKS)
def test_order_of_rules_and_files_changes_nothing(
    permits: list[tuple[str, ...]], chance: object, given_ask: dict[str, object]
) -> None:
    """The verdict depends on what the rules say, not on where they stand."""
    target = given_ask["target"]
    assert isinstance(target, Target)
    asked = {**given_ask, "role": f"{target.id}/admin"}
    texts = [permit(f"p{number}", *parts) for number, parts in enumerate(permits)]
    shuffled = list(texts)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    apart = load_rules({f"{number}.cedar": text for number, text in enumerate(shuffled)})
    assert verdict("".join(texts), **asked) == verdict(apart, **asked)
