"""Warnings: rules that load and likely do not mean what they say."""

from tests.policy.asking import CATALOGUE, GROUPS, examples, forbid, permit
from tidegate.policy.finding import Level, RuleFinding
from tidegate.policy.lint import lint
from tidegate.policy.rules import load_rules

IN_PROD = 'resource in Label::"env=prod"'
ON_PROD = 'resource in Target::"aws-prod"'


def warnings(text: str, empty: frozenset[str] = frozenset()) -> tuple[RuleFinding, ...]:
    return lint(load_rules({"a.cedar": text}), CATALOGUE, GROUPS, empty)


def codes(text: str) -> list[str]:
    return [finding.code for finding in warnings(text)]


def test_examples_are_clean() -> None:
    """The example rules give no warning against the example catalogue."""
    assert lint(examples(), CATALOGUE, GROUPS) == ()


def test_unknown_names_are_found_in_scopes_and_conditions() -> None:
    """A forbid on a name nobody has forbids nothing: each is named at its line, with a near one."""
    found = warnings(
        forbid("a", who='principal in Group::"contractor"')
        + forbid("b", scope='resource in Label::"env=production"')
        + forbid("c", scope='resource in Target::"aws-prd"')
        + forbid("d", scope='resource == Role::"aws-prod/admn"')
        + forbid("e", when='context.hour > 3 &&\nprincipal in Group::"nobody-has-this"')
    )
    assert [(finding.code, finding.line) for finding in found] == [
        ("unknown_group", 2), ("unknown_label", 4), ("unknown_target", 6), ("unknown_role", 8),
        ("unknown_group", 11),
    ]  # fmt: skip
    assert found[0].help == "did you mean `contractors`?"
    assert {Level.WARNING} == {finding.level for finding in found}


def test_requirement_nobody_can_meet_is_found() -> None:
    """An unknown or empty group of approvers; one partly known is not called empty."""
    rule = permit("a", approve="1 of group:owners and 1 of group:ghosts")
    assert codes(rule) == ["unknown_group"]
    assert [finding.code for finding in warnings(rule, frozenset({"owners"}))] == [
        "empty_group",
        "unknown_group",
    ]


def test_weaker_rule_in_the_way_of_a_stronger_one_is_found() -> None:
    """Whoever added the stronger rule believes that it holds."""
    strong = permit("strong", "2h", "2 of group:owners", ON_PROD)
    for weak in (
        permit("weak", "2h", "1 of group:owners", ON_PROD),
        permit("weak", "8h", "1 of group:owners", IN_PROD),
        permit("weak", "8h", "1 of group:owners"),
    ):
        (found,) = warnings(strong + weak)
        assert (found.code, found.line) == ("shadowed", 1)
        assert "`weak` at a.cedar:3" in found.got


def test_rules_that_each_carry_something_are_not_called_shadowed() -> None:
    """Shorter, narrower, with a condition, for others, or as demanding: it hides nothing."""
    strong = permit("strong", "2h", "2 of group:owners", IN_PROD)
    for other in (
        permit("o", "1h", "1 of group:owners", IN_PROD),
        permit("o", "2h", "1 of group:owners", 'resource == Role::"aws-prod/reader"'),
        permit("o", "2h", "1 of group:owners", IN_PROD, "context.hour > 8"),
        permit("o", "2h", "2 of group:owners", IN_PROD),
        permit("o", "2h", "1 of group:owners", 'resource in Label::"env=dev"'),
        permit("o", "2h", "1 of group:owners", IN_PROD).replace(
            "principal,", 'principal in Group::"sre",'
        ),
        permit("o", "2h", "1 of group:owners", IN_PROD).replace("request", "emergency"),
        forbid("o", scope=IN_PROD),
    ):
        assert codes(strong + other) == []


def test_shadow_is_seen_through_shared_conditions() -> None:
    """The same condition on both, in another order, shadows as none does."""
    one, two = "context.hour > 8 && context has ticket", "context has ticket && context.hour > 8"
    assert codes(
        permit("s", "2h", "2 of group:owners", ON_PROD, one)
        + permit("w", "2h", "1 of group:owners", ON_PROD, two)
    ) == ["shadowed"]


def test_production_open_to_nobodys_yes_is_found() -> None:
    """No approval and no ticket on production; a ticket only in one branch is none."""
    assert codes(permit("a", scope=IN_PROD)) == ["prod_without_approval"]
    assert codes(permit("a", scope='resource == Role::"aws-prod/admin"')) == [
        "prod_without_approval"
    ]
    assert codes(permit("a", scope=IN_PROD, when="context has ticket || context.hour > 8")) == [
        "prod_without_approval"
    ]
    assert (
        codes(permit("a", scope=IN_PROD, when='context has ticket && context.ticket like "I*"'))
        == []
    )
    assert codes(permit("a", approve="1 of group:owners", scope=IN_PROD)) == []
    assert codes(permit("a", scope='resource in Target::"aws-dev"')) == []
