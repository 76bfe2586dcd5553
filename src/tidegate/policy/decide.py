"""What a rule set says of one ask: one rule carries it, or it is refused with a reason.

Rules never mix: who, what, when, how long and who approves all come from the one carrier, so the
long `max` of one rule cannot leak to what another one permits. Asked when a request is filed and
again when it opens, by the same function. Knows no votes and no clock: `start` is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from zoneinfo import ZoneInfo

from tidegate.base.when import Instant, show_duration
from tidegate.catalogue import Target
from tidegate.policy.engine import Answer, Question
from tidegate.policy.requirement import Requirement
from tidegate.policy.rules import Rule, RuleSet

ALLOWED = "allowed"
NO_RULE = "no_rule"  # no permit matches
FORBIDDEN = "forbidden"  # a forbid matches
TOO_LONG = "too_long"  # permits match, none for that long
RULE_ERROR = "rule_error"  # something could not be evaluated, so nothing is trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One item of a request, with all that rules may know of it.

    `groups` is every group the principal is in, directly or through another; `group_parents` says
    how they nest. `target` is the role's. The window is `start` to `start + duration`. Of the
    reason only its presence: personal text never reaches the rules. `covers` is what `@max` and
    `duration_seconds` are held against where that is longer: with other grants of the role, all of
    them together.
    """

    principal: str
    groups: frozenset[str]
    role: str
    target: Target
    duration: timedelta
    start: Instant
    group_parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    emergency: bool = False
    ticket: str | None = None
    reason_given: bool = True
    covers: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the rules say. `why` is one sentence for people, without a full stop.

    When allowed: `carrier` is the one rule that carries it, `requirement` and `max` are its own,
    `rules` is every permit that matched. Else `carrier` is empty, `requirement` None, and `rules`
    names what decided: the forbids, the rules that failed, or the ones too short; `max` is then the
    longest those cover (`too_long`), else None. `rules` is sorted. For `no_rule`, `why` goes on
    after a `; ` with what whoever asked can do. `grace` is the carrier's, where the rules permit an
    end that late too; else none.
    """

    allowed: bool
    carrier: str
    requirement: Requirement | None
    max: timedelta | None
    rules: tuple[str, ...]
    code: str
    why: str
    grace: timedelta = timedelta(0)


def decide(rule_set: RuleSet, ask: Ask) -> Verdict:
    """Decide one ask. Never raises for what a person asked; any doubt is a no.

    Raises:
        RuntimeError: the role is not of the target, or the duration is not above zero: bugs.
    """
    if ask.role.partition("/")[0] != ask.target.id or ask.duration <= timedelta(0):
        raise RuntimeError(f"asked {ask.role!r} on {ask.target.id!r} for {ask.duration}")
    context = _context(ask, timedelta(0))
    if context is None:
        zone = ask.target.time_zone[:60]
        why = f"the window has no local time in the time zone `{zone}` of target `{ask.target.id}`"
        return _refusal(RULE_ERROR, why, ())
    answer = _asked(rule_set, ask, context)
    if not answer.allow:
        return _refused(rule_set, answer, ask)
    if answer.errors:
        return _failed(answer)
    verdict = _carried([rule_set.rules[rule_id] for rule_id in answer.reasons], ask)
    return replace(verdict, grace=_grace(rule_set, verdict, ask))


def _asked(rule_set: RuleSet, ask: Ask, context: dict[str, str | int | bool]) -> Answer:
    return rule_set.engine.ask(
        Question(
            principal=ask.principal,
            action="emergency" if ask.emergency else "request",
            role=ask.role,
            target=ask.target.id,
            labels=ask.target.labels,
            groups=ask.groups,
            group_parents=ask.group_parents,
            context=context,
        )
    )


def _grace(rule_set: RuleSet, verdict: Verdict, ask: Ask) -> timedelta:
    """The carrier's grace, if it and every forbid say the same of an end that much later."""
    grace = rule_set.rules[verdict.carrier].grace if verdict.allowed else timedelta(0)
    if not grace:
        return grace
    later = _context(ask, grace)
    answer = _asked(rule_set, ask, later) if later is not None else None
    holds = (
        answer is not None
        and answer.allow
        and not answer.errors
        and verdict.carrier in answer.reasons
    )
    return grace if holds else timedelta(0)


def _carried(matching: list[Rule], ask: Ask) -> Verdict:
    """The verdict of the matching permits: the mildest that covers the whole duration alone."""
    ids = tuple(sorted(rule.id for rule in matching))
    length = max(ask.duration, ask.covers)
    candidates = [rule for rule in matching if rule.max >= length]
    if not candidates:
        longest = max(matching, key=lambda rule: (rule.max, rule.id))
        why = (
            f"rule `{longest.id}` allows at most {show_duration(longest.max)} "
            f"of `{ask.role}`, got {show_duration(length)}"
        )
        return _refusal(TOO_LONG, why, ids, longest.max)
    carrier = min(candidates, key=lambda rule: (rule.requirement.votes, rule.max, rule.id))
    approval = carrier.requirement.text if carrier.requirement.needs else "nobody"
    return Verdict(
        allowed=True,
        carrier=carrier.id,
        requirement=carrier.requirement,
        max=carrier.max,
        rules=ids,
        code=ALLOWED,
        why=f"rule `{carrier.id}` permits `{ask.role}` for up to {show_duration(carrier.max)}, "
        f"approved by {approval}",
    )


def _refused(rule_set: RuleSet, answer: Answer, ask: Ask) -> Verdict:
    if answer.reasons:
        names = ", ".join(f"`{rule_id}`" for rule_id in answer.reasons)
        verb = "rules {} forbid" if len(answer.reasons) > 1 else "rule {} forbids"
        return _refusal(FORBIDDEN, f"{verb.format(names)} `{ask.role}` here", answer.reasons)
    if answer.errors:
        return _failed(answer)
    what = "emergency" if ask.emergency else "request"
    to_do = "ask who looks after this target"
    if not ask.ticket and any(_wants_ticket(rule, ask) for rule in rule_set.rules.values()):
        to_do = "some rules here want a ticket: add --ticket"
    return _refusal(NO_RULE, f"no rule permits this {what} as asked; {to_do}", ())


def _wants_ticket(rule: Rule, ask: Ask) -> bool:
    """Whether `rule` is about who asks and what for, and cannot match without a ticket.

    Rules of others must not show through: one that names any principal, group, role, target or
    label that is not of this very ask says nothing here, wherever in the rule it is named.
    """
    form = rule.form
    action = "emergency" if ask.emergency else "request"
    if rule.effect != "permit" or not form.wants_ticket or action not in form.actions:
        return False
    own = {("Principal", ask.principal), ("Role", ask.role), ("Target", ask.target.id)}
    own.update(("Group", name) for name in ask.groups)
    own.update(("Label", label) for label in ask.target.labels)
    return all(uid in own for uid in form.named if uid[0] != "Action")


def _failed(answer: Answer) -> Verdict:
    """No: the engine leaves out what it cannot evaluate, and that may have been a forbid."""
    rule_id, cause = min(answer.errors.items())
    which = f"rule `{rule_id}` could not be evaluated" if rule_id else "nothing could be evaluated"
    return _refusal(RULE_ERROR, f"{which}: {cause}", tuple(sorted(filter(None, answer.errors))))


def _refusal(
    code: str, why: str, rules: tuple[str, ...], longest: timedelta | None = None
) -> Verdict:
    return Verdict(
        allowed=False, carrier="", requirement=None, max=longest, rules=rules, code=code, why=why
    )


def _context(ask: Ask, grace: timedelta) -> dict[str, str | int | bool] | None:
    """The context of the rules, the end `grace` later; None when the window has no local time.

    The duration counts whole seconds rounded *up*: a limit in a rule is never passed by a fraction.
    """
    try:
        zone = ZoneInfo(ask.target.time_zone)
        start = ask.start.astimezone(zone)
        end = (ask.start + ask.duration + grace).astimezone(zone)
    except (KeyError, ValueError, OSError, OverflowError):
        return (
            None  # an unknown zone, a name that is a folder or no path, or a window past year 9999
        )
    context: dict[str, str | int | bool] = {
        "reason_given": ask.reason_given,
        "emergency": ask.emergency,
        "duration_seconds": -(-max(ask.duration, ask.covers) // timedelta(seconds=1)),
        "weekday": start.isoweekday(),
        "hour": start.hour,
        "end_weekday": end.isoweekday(),
        "end_hour": end.hour,
    }
    if ask.ticket:
        context["ticket"] = ask.ticket
    return context
