"""One statement in Cedar, its form out: what it is bound to, and what is wrong with it.

It adds what the engine does not catch by itself: `has` on a name that does not exist, and tests
that can never hold. Either would switch a forbid off without a word. This file and `engine` are the
only ones that import `cedarpy`.
"""

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Literal

import cedarpy
from cedarpy import pst

from tidegate.policy.finding import RuleFinding
from tidegate.policy.scanner import Statement, line_of

SCHEMA = """
entity Group;
entity Principal in [Group];
entity Label;
entity Target in [Label];
entity Role in [Target];
action request, emergency appliesTo {
  principal: Principal,
  resource: Role,
  context: {
    ticket?: String,
    reason_given: Bool,
    emergency: Bool,
    duration_seconds: Long,
    weekday: Long,
    hour: Long,
    end_weekday: Long,
    end_hour: Long,
  }
};
"""
# Each attribute of the context with the whole numbers it can be; the empty range for no number.
CONTEXT: Mapping[str, range] = {
    "ticket": range(0),
    "reason_given": range(0),
    "emergency": range(0),
    "duration_seconds": range(1, 366 * 86_400 + 1),
    "weekday": range(1, 8),
    "hour": range(24),
    "end_weekday": range(1, 8),
    "end_hour": range(24),
}

Uid = tuple[str, str]  # an entity's type and id

# What a variable can be equal to (the first) or in (any).
_KINDS = {
    "principal": ("Principal", "Group"),
    "resource": ("Role", "Target", "Label"),
    "action": ("Action",),
}
Oddity = tuple[str, str, str, str, str]  # word in the text, code, expected, got, help
_POLICY = re.compile(r"(?:for )?policy `policy0`,? ?")
_QUOTED = re.compile(r"`([^`]+)`")
_CODES = (
    ("unrecognized entity type", "unknown_entity_type", "a type of the schema",
     "the types are Principal, Group, Role, Target and Label"),
    ("unrecognized action", "unknown_action", "an action of the schema",
     'the actions are Action::"request" and Action::"emergency"'),
    ("unable to guarantee safety", "unguarded_attribute", "an optional attribute behind `has`",
     "write `context has ticket && context.ticket …`"),
    ("unable to find an applicable action", "impossible_scope", "a scope that can match",
     "principals are in Group, resources in Role, Target or Label"),
    ("attribute ", "unknown_attribute", "an attribute of the context",
     "the context has " + ", ".join(sorted(CONTEXT))),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A parsed statement. `actions` is empty, `principal` and `resource` None, where it takes any.

    `conditions` are the parts of its `when` and `unless` that must all hold; `named` is every
    entity it mentions anywhere; `wants_ticket` says that it cannot match without a ticket. `node`
    belongs to the engine.
    """

    effect: Literal["permit", "forbid"]
    annotations: Mapping[str, str]
    actions: frozenset[str]
    principal: Uid | None
    resource: Uid | None
    conditions: frozenset[Hashable]
    named: frozenset[Uid]
    wants_ticket: bool
    node: pst.Template


class Reader:
    """Reads statements against SCHEMA, parsed once."""

    __slots__ = ("_schema",)

    def __init__(self) -> None:
        """Parse the schema."""
        self._schema = cedarpy.Schema.from_str(SCHEMA)

    def read(self, statement: Statement, file: str) -> tuple[Form | None, tuple[RuleFinding, ...]]:
        """Parse and check one statement without a `fault`: its form, or what to mend in it."""
        try:
            nodes = cedarpy.PolicySet.from_str(statement.text).to_pst()
        except ValueError as fault:
            return None, (_not_parsed(statement, file, str(fault)),)
        if nodes.templates or len(nodes.static_policies) != 1:
            advice = "name the principal and the resource instead of `?principal` and `?resource`"
            odd = ("", "template", "a rule without slots", "a template", advice)
            return None, (_found(statement, file, odd),)
        (node,) = nodes.static_policies.values()
        result = cedarpy.validate_policies(statement.text, self._schema)
        if not result.validation_passed:
            return None, _not_valid(statement, file, [error.error for error in result.errors])
        found = tuple(_found(statement, file, odd) for odd in _never_true(node))
        return (None, found) if found else (_form(node), ())


def _form(node: pst.Template) -> Form:
    conditions = frozenset(_conditions(node))
    wants = pst.HasAttr(pst.Var("context"), ("ticket",))
    return Form(
        effect=node.effect,
        annotations=dict(node.annotations),
        actions=_actions(node.action),
        principal=_scope(node.principal),
        resource=_scope(node.resource),
        conditions=conditions,
        named=frozenset((str(uid.type), uid.id) for uid in pst.entity_uids(node)),
        wants_ticket=("when", wants) in conditions,
        node=node,
    )


def _actions(scope: pst.ActionConstraint) -> frozenset[str]:
    if isinstance(scope, pst.ActionEq):
        return frozenset({scope.entity.id})
    return (
        frozenset(uid.id for uid in scope.entities)
        if isinstance(scope, pst.ActionIn)
        else frozenset()
    )


def _scope(scope: pst.PrincipalOrResourceConstraint) -> Uid | None:
    """The entity a scope is bound to. `is` alone binds to none: only one type can be meant."""
    if isinstance(scope, pst.ScopeAny | pst.ScopeIs) or isinstance(scope.entity, pst.Slot):
        return None
    return str(scope.entity.type), scope.entity.id


def _conditions(node: pst.Template) -> Iterator[tuple[str, pst.Expr]]:
    for clause in node.clauses:
        if isinstance(clause, pst.Unless):
            yield "unless", clause.expr
            continue
        parts = [clause.expr]
        while parts:
            part = parts.pop()
            if isinstance(part, pst.BinaryOp) and part.op == "and":
                parts += (part.left, part.right)
            else:
                yield "when", part


def _never_true(node: pst.Template) -> Iterator[Oddity]:
    """Each test that is well typed and can never hold."""
    for part in _walk(node.clauses):
        if isinstance(part, pst.HasAttr):
            yield from _odd_has(part)
        elif isinstance(part, pst.Is):
            yield from _odd_is(part)
        elif isinstance(part, pst.BinaryOp) and part.op in ("get_tag", "has_tag"):
            got, advice = "a tag", "nothing has tags"
            yield "", "unknown_attribute", "an attribute of the context", got, advice
        elif isinstance(part, pst.BinaryOp) and part.op == "in":
            yield from _odd_in(part.left, part.right)
        elif isinstance(part, pst.BinaryOp) and part.op in ("eq", "contains"):
            yield from _odd_equal(part.left, part.right)
            yield from _odd_equal(part.right, part.left)


def _odd_has(part: pst.HasAttr) -> Iterator[Oddity]:
    known = part.base == pst.Var("context") and len(part.attrs) == 1 and part.attrs[0] in CONTEXT
    if not known:
        yield (
            part.attrs[0],
            "unknown_attribute",
            "`has` with an attribute of the context",
            f"`has {'.'.join(part.attrs)}`",
            "only the context has attributes: " + ", ".join(sorted(CONTEXT)),
        )


def _odd_is(part: pst.Is) -> Iterator[Oddity]:
    kinds = _KINDS.get(part.base.name, ()) if isinstance(part.base, pst.Var) else ()
    if str(part.entity_type) not in kinds[:1]:
        yield (
            str(part.entity_type),
            "never_true",
            "`principal is Principal` or `resource is Role`",
            f"`is {part.entity_type}`",
            "write `in` for what it belongs to",
        )
    elif part.in_expr is not None:
        yield from _odd_in(part.base, part.in_expr)


def _odd_in(left: pst.Expr, right: pst.Expr) -> Iterator[Oddity]:
    if not isinstance(left, pst.Var):
        yield (
            "",
            "never_true",
            "`principal in …` or `resource in …`",
            "`in` after something else",
            "groups, targets and labels are asked of the principal and the resource",
        )
        return
    kinds = _KINDS.get(left.name, ())
    for literal in _literals(right):
        if isinstance(literal, pst.EntityLit) and str(literal.value.type) not in kinds:
            yield _never(literal, f"`{left.name} in` with {' or '.join(kinds)}")


def _odd_equal(one: pst.Expr, other: pst.Expr) -> Iterator[Oddity]:
    for literal in _literals(other):
        if isinstance(one, pst.Var) and isinstance(literal, pst.EntityLit):
            kinds = _KINDS.get(one.name, ())[:1]
            if str(literal.value.type) not in kinds:
                yield _never(literal, f"`{one.name} ==` with {' or '.join(kinds)}")
        elif isinstance(one, pst.GetAttr) and isinstance(literal, pst.LongLit):
            possible = CONTEXT.get(one.attr, range(0))
            if possible and literal.value not in possible:
                yield (
                    str(literal.value),
                    "never_true",
                    f"`{one.attr}` from {possible[0]} to {possible[-1]}",
                    f"`{literal.value}`",
                    "weekdays count from 1 (Monday) to 7 (Sunday), hours from 0 to 23",
                )


def _literals(expr: pst.Expr) -> tuple[pst.Expr, ...]:
    return expr.elements if isinstance(expr, pst.Set) else (expr,)


def _never(literal: pst.EntityLit, expected: str) -> Oddity:
    advice = "write `in` for groups, targets and labels, and ask each of what can be in it"
    return f'"{literal.value.id}"', "never_true", expected, f"`{literal.value}`", advice


def _walk(root: object) -> Iterator[object]:
    """Every node under `root`, depth first, without recursion."""
    stack: list[object] = [root]
    while stack:
        part = stack.pop()
        if isinstance(part, tuple):
            stack += reversed(part)
        elif isinstance(part, Mapping):
            stack += part.values()
        elif is_dataclass(part):
            yield part
            stack += [getattr(part, field.name) for field in reversed(fields(part))]


def _not_parsed(statement: Statement, file: str, message: str) -> RuleFinding:
    if "nesting exceeds" in message:
        advice = "split it into several rules"
        odd = ("", "too_deep", "at most 100 levels of `&&`, `||`, `.` and brackets", "more", advice)
        return _found(statement, file, odd)
    advice = "compare it with the examples in docs/rules.md"
    if "unexpected token `@`" in message:
        advice = "a `;` is missing at the end of the rule before this `@`"
    odd = (_word(message), "syntax_error", "a rule in Cedar", message, advice)
    return _found(statement, file, odd)


def _not_valid(statement: Statement, file: str, messages: list[str]) -> tuple[RuleFinding, ...]:
    found: dict[tuple[str, str], RuleFinding] = {}
    for raw in messages:
        message, word = _POLICY.sub("", raw), _word(raw)
        code, expected, advice = "not_valid", "what the schema allows", "see docs/rules.md"
        for start, its_code, its_expected, its_advice in _CODES:
            if message.startswith(start):
                code, expected, advice = its_code, its_expected, its_advice
                break
        # Said once per action, and a scope that fails for a named cause needs no second finding.
        if (code, word) not in found and not (code == "impossible_scope" and found):
            found[code, word] = _found(statement, file, (word, code, expected, message, advice))
    return tuple(found.values())


def _word(message: str) -> str:
    """The first thing the engine quotes, as it would stand in the file."""
    quoted = _QUOTED.search(_POLICY.sub("", message))
    return quoted[1].rpartition("::")[2] if quoted else ""


def _found(statement: Statement, file: str, odd: Oddity) -> RuleFinding:
    word, code, expected, got, advice = odd
    return RuleFinding(
        file=file,
        line=statement.line + (line_of(statement.text, word) if word else 0),
        expected=expected,
        got=got,
        help=advice,
        code=code,
    )
