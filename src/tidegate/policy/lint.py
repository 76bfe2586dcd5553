"""What is odd about a sound rule set beside the catalogue and the groups: warnings only.

A rule may be written before its target, so unknown names load; here they are named, since a forbid
on a name nobody has forbids nothing. Called by `tidegate check`; decides nothing.
"""

from collections.abc import Iterator
from difflib import get_close_matches

from tidegate.catalogue import Catalogue
from tidegate.policy.finding import MOST_FINDINGS, Level, RuleFinding
from tidegate.policy.form import Uid
from tidegate.policy.rules import Rule, RuleSet
from tidegate.policy.scanner import line_of

PROD_LABEL = "env=prod"  # the label by which a target says that mistakes on it hurt


def lint(
    rule_set: RuleSet,
    catalogue: Catalogue,
    groups: frozenset[str],
    empty: frozenset[str] = frozenset(),
) -> tuple[RuleFinding, ...]:
    """Up to MOST_FINDINGS warnings, by file and line.

    `groups` is every group known, `empty` those of them that certainly have no member. A group
    known only from sign-in claims is partly known: leave it out of `empty`.
    """
    sizes = _Catalogued(catalogue)
    permits = [rule for rule in rule_set.rules.values() if rule.effect == "permit"]
    found = [
        finding
        for rule in rule_set.rules.values()
        for finding in (
            *_unknown_names(rule, sizes, groups),
            *_hopeless_needs(rule, groups, empty),
            *_open_prod(rule, sizes),
        )
    ]
    found += _shadowed(permits, sizes)
    found.sort(key=lambda finding: (finding.file, finding.line, finding.code, finding.got))
    return tuple(found[:MOST_FINDINGS])


class _Catalogued:
    """The catalogue as rules see it: which ids exist, and which roles a scope covers."""

    __slots__ = ("_covered", "ids", "labels", "roles")

    def __init__(self, catalogue: Catalogue) -> None:
        self.labels = {
            role_id: frozenset(catalogue.targets[role.target].labels)
            for role_id, role in catalogue.roles.items()
            if role.target in catalogue.targets
        }
        self.roles = frozenset(self.labels)
        self.ids = {
            "Target": frozenset(catalogue.targets),
            "Role": frozenset(catalogue.roles),
            "Label": frozenset(
                label for target in catalogue.targets.values() for label in target.labels
            ),
        }
        self._covered: dict[Uid | None, frozenset[str]] = {None: self.roles}

    def covered(self, scope: Uid | None) -> frozenset[str]:
        """The roles a resource scope covers today; None covers all."""
        if scope not in self._covered:
            self._covered[scope] = frozenset(
                role_id
                for role_id, labels in self.labels.items()
                if scope is not None and _covers(scope, role_id, labels)
            )
        return self._covered[scope]


def _covers(scope: Uid, role_id: str, labels: frozenset[str]) -> bool:
    kind, name = scope
    if kind == "Label":
        return name in labels
    return name == (role_id.partition("/")[0] if kind == "Target" else role_id)


def _unknown_names(rule: Rule, sizes: _Catalogued, groups: frozenset[str]) -> Iterator[RuleFinding]:
    known = {**sizes.ids, "Group": groups}
    for kind, name in sorted(rule.form.named):
        if kind in known and name not in known[kind]:
            word = kind.lower()
            yield _odd(
                rule,
                f"unknown_{word}",
                f"a {word} that exists",
                f'`{kind}::"{name[:80]}"`',
                _near(name, known[kind])
                or f"nothing is in it, so this part of `{rule.id}` never matches",
                f'"{name}"',
            )


def _hopeless_needs(
    rule: Rule, groups: frozenset[str], empty: frozenset[str]
) -> Iterator[RuleFinding]:
    for need in rule.requirement.needs:
        if need.group not in groups:
            advice = _near(need.group, groups) or "nobody could ever approve"
            got = f"`{need.text}`"
            yield _odd(rule, "unknown_group", "approvers from a group that exists", got, advice)
        elif need.group in empty:
            got = f"`{need.text}`, which is empty"
            advice = "add members, or requests under this rule wait until they lapse"
            yield _odd(rule, "empty_group", "approvers from a group with members", got, advice)


def _open_prod(rule: Rule, sizes: _Catalogued) -> Iterator[RuleFinding]:
    """A permit that opens production with nobody approving and no ticket asked for."""
    if rule.effect == "forbid" or rule.requirement.needs or rule.form.wants_ticket:
        return
    prod = sorted(
        role_id
        for role_id in sizes.covered(rule.form.resource)
        if PROD_LABEL in sizes.labels[role_id]
    )
    if prod:
        yield _odd(
            rule,
            "prod_without_approval",
            f"an approval or a ticket for what is labelled `{PROD_LABEL}`",
            f"neither for `{prod[0]}`" + (f" and {len(prod) - 1} more" if len(prod) > 1 else ""),
            "add `when { context has ticket }` or an `@approve` that names a group",
        )


def _shadowed(permits: list[Rule], sizes: _Catalogued) -> Iterator[RuleFinding]:
    """Each permit that can never carry, since a milder one matches wherever it does.

    The carrier is the permit with the fewest votes among those that cover the duration. So a rule
    with fewer votes, as wide a scope, no further condition and no shorter `max` always wins.
    """
    by_principal: dict[Uid | None, list[Rule]] = {}
    for rule in permits:
        by_principal.setdefault(rule.form.principal, []).append(rule)
    for strong in permits:
        wider = dict.fromkeys((None, strong.form.principal))
        for weak in (rule for scope in wider for rule in by_principal.get(scope, ())):
            if _shadows(weak, strong, sizes):
                yield _odd(
                    strong,
                    "shadowed",
                    f"`{strong.id}` to carry some request",
                    f"`{weak.id}` at {weak.file}:{weak.line}, as wide, with fewer votes",
                    f"narrow `{weak.id}`, shorten its `@max`, or remove one of the two",
                )
                break


def _shadows(weak: Rule, strong: Rule, sizes: _Catalogued) -> bool:
    if weak.requirement.votes >= strong.requirement.votes or weak.max < strong.max:
        return False
    one, other = weak.form, strong.form
    roles = sizes.covered(other.resource)
    return (
        one.actions >= other.actions
        and one.conditions <= other.conditions
        and (
            one.resource in (None, other.resource)
            or (bool(roles) and sizes.covered(one.resource) >= roles)
        )
    )


def _near(name: str, known: frozenset[str]) -> str:
    near = get_close_matches(name[:80], sorted(known), n=1)
    return f"did you mean `{near[0]}`?" if near else ""


def _odd(
    rule: Rule, code: str, expected: str, got: str, advice: str, word: str = ""
) -> RuleFinding:
    return RuleFinding(
        file=rule.file,
        line=rule.line + (line_of(rule.text, word) if word else 0),
        expected=expected,
        got=got,
        help=advice,
        code=code,
        level=Level.WARNING,
    )
