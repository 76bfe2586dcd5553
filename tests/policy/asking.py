"""Builders for asks and rule sets, and the two targets the examples speak of."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tidegate.catalogue import Catalogue, Role, Target
from tidegate.policy.decide import Ask, Verdict, decide
from tidegate.policy.rules import RuleFinding, RulesBroken, RuleSet, load_rules

PROD = Target(id="aws-prod", connector="aws", account="111111111111", labels=("env=prod", "tier=1"))
DEV = Target(id="aws-dev", connector="aws", account="222222222222", labels=("env=dev",))
CATALOGUE = Catalogue(
    targets={target.id: target for target in (PROD, DEV)},
    roles={
        name: Role(id=name, kind="iam-role", native={"arn": f"arn:aws:iam::1:role/{name}"})
        for name in ("aws-prod/admin", "aws-prod/reader", "aws-dev/admin")
    },
)
GROUPS = frozenset({"sre", "sre-leads", "owners", "engineers", "contractors"})
TUESDAY_NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
EXAMPLES = Path(__file__).parent / "rules"


def examples() -> RuleSet:
    """The rule files beside this one."""
    return load_rules({path.name: path.read_text() for path in EXAMPLES.glob("*.cedar")})


def ask(**changes: object) -> Ask:
    """A principal of `sre` asking for an hour of `aws-prod/admin` on a Tuesday, with a ticket."""
    given: dict[str, object] = {
        "principal": "pr_ana",
        "groups": frozenset({"sre"}),
        "role": "aws-prod/admin",
        "target": PROD,
        "duration": HOUR,
        "start": TUESDAY_NOON,
        "ticket": "INC-4711",
    }
    return Ask(**{**given, **changes})  # type: ignore[arg-type]


def verdict(rules: RuleSet | str, **changes: object) -> Verdict:
    """What `rules` (a set, or the text of one file) say of `ask(**changes)`."""
    rule_set = load_rules({"a.cedar": rules}) if isinstance(rules, str) else rules
    return decide(rule_set, ask(**changes))


def permit(
    rule_id: str,
    longest: str = "2h",
    approve: str = "none",
    scope: str = "resource",
    when: str = "",
) -> str:
    """A permit for anyone to request what `scope` covers."""
    tail = f" when {{ {when} }}" if when else ""
    return (
        f'@id("{rule_id}") @max("{longest}") @approve("{approve}")\n'
        f'permit (principal, action == Action::"request", {scope}){tail};\n'
    )


def forbid(rule_id: str, who: str = "principal", scope: str = "resource", when: str = "") -> str:
    """A forbid of every action."""
    tail = f" when {{ {when} }}" if when else ""
    return f'@id("{rule_id}")\nforbid ({who}, action, {scope}){tail};\n'


def findings(*texts: str) -> tuple[RuleFinding, ...]:
    """What is wrong with files `a.cedar`, `b.cedar`, …; empty when they load."""
    try:
        load_rules({f"{chr(97 + index)}.cedar": text for index, text in enumerate(texts)})
    except RulesBroken as broken:
        return broken.findings
    return ()
