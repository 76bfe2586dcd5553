"""A question to Cedar, its answer back: which rules matched, and which could not be evaluated.

Decides nothing: `decide` reads the answer.
"""

import re
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import cedarpy
import orjson
from cedarpy import pst

from tidegate.policy.form import SCHEMA, Form, Uid

# Policies held by all cached handles of a set: about 5 KiB each, so some 250 MiB at the very worst.
MOST_HELD = 50_000

_FAILED = re.compile(r"while evaluating policy `([^`]*)`: ([^`]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request to the engine, with everything its principal and its role are in.

    `groups` is every group the principal is in; `group_parents` links those groups.
    """

    principal: str
    action: str
    role: str
    target: str
    labels: tuple[str, ...]
    groups: frozenset[str]
    group_parents: Mapping[str, tuple[str, ...]]
    context: Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the engine said. `reasons` are rule ids: an `allow`'s permits, or a `deny`'s forbids.

    `errors` maps each rule whose evaluation failed to a cause without values; the empty id stands
    for the question itself, which did not fit the schema. Any error makes the answer worthless:
    the engine skips the rule, also when it is a forbid.
    """

    allow: bool
    reasons: tuple[str, ...]
    errors: Mapping[str, str]


class Engine:
    """The parsed rules of one rule set, by id. Immutable but for a bounded cache; thread-safe."""

    __slots__ = ("_by_resource", "_forms", "_handles", "_held", "_lock", "_schema")

    def __init__(self, forms: Mapping[str, Form]) -> None:
        """Take the forms by rule id. Nothing is handed to the engine before the first question."""
        self._forms = forms
        self._schema = cedarpy.Schema.from_str(SCHEMA)
        self._by_resource: dict[Uid | None, list[str]] = {}
        for rule_id, form in forms.items():
            self._by_resource.setdefault(form.resource, []).append(rule_id)
        self._handles: dict[frozenset[Uid], cedarpy.PolicySet] = {}
        self._held = 0
        self._lock = threading.Lock()

    def ask(self, question: Question) -> Answer:
        """Evaluate every rule that can concern the question, always against the schema."""
        result = cedarpy.is_authorized(
            {
                "principal": {"type": "Principal", "id": question.principal},
                "action": {"type": "Action", "id": question.action},
                "resource": {"type": "Role", "id": question.role},
                "context": dict(question.context),
            },
            self._handle(question),
            orjson.dumps(_entities(question)).decode(),
            self._schema,
        )
        errors = dict(_failure(text) for text in result.diagnostics.errors)
        if result.decision is cedarpy.Decision.NoDecision:
            errors = {"": "the principal, the role or the context does not fit the schema"}
        return Answer(
            allow=result.allowed,
            reasons=tuple(sorted(result.diagnostics.reasons)),
            errors=errors,
        )

    def _handle(self, question: Question) -> cedarpy.PolicySet:
        """The policies whose resource scope can match, kept: a parse costs 22 to 54 decisions."""
        own = {("Role", question.role), ("Target", question.target)}
        own.update(("Label", label) for label in question.labels)
        key = frozenset(uid for uid in own if uid in self._by_resource)
        with self._lock:
            handle = self._handles.get(key)
            if handle is None:
                ids = [*self._by_resource.get(None, ())]
                for uid in key:
                    ids += self._by_resource[uid]
                if self._held + len(ids) > MOST_HELD:
                    self._handles.clear()
                    self._held = 0
                handle = self._handles[key] = _policy_set(ids, self._forms)
                self._held += len(ids)
        return handle


def _policy_set(ids: Collection[str], forms: Mapping[str, Form]) -> cedarpy.PolicySet:
    """A handle whose policy ids are our rule ids, so that its reasons name rules."""
    nodes = {rule_id: replace(forms[rule_id].node, id=rule_id) for rule_id in ids}
    return cedarpy.PolicySet.from_pst(
        pst.PolicySet(templates={}, static_policies=nodes, template_links=())
    )


def _entities(question: Question) -> list[object]:
    """The slice of the world: the principal in *all* its groups, the role in its target's labels.

    A forbid matches only through ancestors that are present, so the closure is taken here again
    and the principal put into each group directly: no missing link hides one, and groups that
    contain each other (directories allow it, the engine does not) harm nothing.
    """
    closure, waiting = set[str](), list(question.groups)
    while waiting:
        group = waiting.pop()
        if group not in closure:
            closure.add(group)
            waiting += question.group_parents.get(group, ())
    groups = sorted(closure)
    return [
        _entity("Principal", question.principal, "Group", groups),
        *(_entity("Group", name, "Group", ()) for name in groups),
        _entity("Role", question.role, "Target", (question.target,)),
        _entity("Target", question.target, "Label", question.labels),
        *(_entity("Label", label, "Label", ()) for label in sorted(set(question.labels))),
    ]


def _entity(kind: str, name: str, parent_kind: str, parents: Collection[str]) -> object:
    return {
        "uid": {"type": kind, "id": name},
        "attrs": {},
        "parents": [{"type": parent_kind, "id": parent} for parent in parents],
    }


def _failure(error: str) -> tuple[str, str]:
    """The rule and the cause of an evaluation error, without the values the engine quotes in it."""
    match = _FAILED.search(error)
    return (match[1], match[2].strip()[:80]) if match else ("", "the engine reported an error")
