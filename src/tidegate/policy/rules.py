"""Rule files into a rule set: an immutable version of all rules, with a digest.

A rule is one Cedar statement with `@id`, and for a permit `@max` and `@approve`. Either every file
is sound or nothing is loaded. Whether the names in it exist is `lint`'s to say: a rule may be
written before its target.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from tidegate.base.canonical import Json, digest
from tidegate.base.errors import AskedWrongly
from tidegate.base.text import clean_name
from tidegate.base.when import parse_duration, show_duration
from tidegate.policy.engine import Engine
from tidegate.policy.finding import MOST_FINDINGS, Level, RuleFinding, RulesBroken
from tidegate.policy.form import Form, Reader
from tidegate.policy.requirement import Requirement, parse_requirement
from tidegate.policy.scanner import (
    DEEPEST,
    LONGEST_STATEMENT,
    MOST_STEPS,
    Statement,
    hidden_character,
    split_statements,
)

__all__ = [
    "Level",
    "Rule",
    "RuleFinding",
    "RuleSet",
    "RulesBroken",
    "load_rules",
]

MOST_RULES = 10_000  # loads in seconds and decides in under a millisecond; measured up to here
MOST_FILES = 1_000
MOST_CHARACTERS = 4_000_000  # of all files: MOST_RULES of a generous 400 characters each
LONGEST_FILE_NAME = 200
ANNOTATIONS = ("id", "max", "approve", "grace")
# Enough to finish what runs; whoever needs longer asks for a longer window, within `@max`.
LONGEST_GRACE = timedelta(minutes=15)

_FAULTS = {
    "no_end": ("`;` at the end of the rule", "end every rule with `;`"),
    "open_string": ('`"` at the end of the text', "close the string that opens here"),
    "too_long": (
        f"a rule of at most {LONGEST_STATEMENT} characters",
        "split it into several rules",
    ),
    "too_deep": (
        f"at most {DEEPEST} open brackets and {MOST_STEPS} operators in a rule",
        "split it into several rules",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. `text` is its statement exactly as written, at `line` (from 1) of `file`.

    A forbid has a zero `max` and an empty `requirement`: it permits nothing. `grace` is how long
    after the window running work may finish, on top of `max`. `form` is for this room only.
    """

    id: str
    max: timedelta
    requirement: Requirement
    effect: Literal["permit", "forbid"]
    text: str
    file: str
    line: int
    form: Form = field(repr=False)
    grace: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """An immutable version of all rules. Two sets are the same exactly when their digests are.

    `digest` is the canonical digest of `document()`, so whoever holds the document can check it
    without knowing rules. A set without rules is sound, and refuses everything.
    """

    digest: str
    rules: Mapping[str, Rule] = field(compare=False)
    files: Mapping[str, str] = field(compare=False, repr=False)
    engine: Engine = field(compare=False, repr=False)

    def document(self) -> dict[str, Json]:
        """All files by name with their exact text: what is sealed and stored."""
        return _document(self.files)


def load_rules(files: Mapping[str, str]) -> RuleSet:
    """Read files (name to text) into a rule set. The order of `files` does not matter.

    Raises:
        RulesBroken: with up to MOST_FINDINGS findings in file and line order; nothing is loaded.
    """
    found = list(_file_findings(files))
    if found:
        raise RulesBroken(tuple(found))
    reader, rules = Reader(), dict[str, Rule]()
    for name in sorted(files):
        for statement in split_statements(files[name]):
            form, troubles = _read(statement, name, reader)
            if form is None:
                found += troubles
            else:
                rule, troubles = _rule(form, statement, name)
                found += troubles
                if rule is not None:
                    found += _twice(rules.get(rule.id), rule)
                    rules.setdefault(rule.id, rule)
            if len(found) >= MOST_FINDINGS:
                raise RulesBroken(tuple(found[:MOST_FINDINGS]))
            if len(rules) > MOST_RULES:
                raise RulesBroken((_bound(f"at most {MOST_RULES} rules", "more"),))
    if found:
        raise RulesBroken(tuple(found))
    ordered = dict(sorted(rules.items()))
    kept = dict(sorted(files.items()))
    return RuleSet(
        digest=digest(_document(kept)),
        rules=ordered,
        files=kept,
        engine=Engine({rule_id: rule.form for rule_id, rule in ordered.items()}),
    )


def _document(files: Mapping[str, str]) -> dict[str, Json]:
    return {"files": [{"name": name, "text": files[name]} for name in sorted(files)]}


def _file_findings(files: Mapping[str, str]) -> list[RuleFinding]:
    """What keeps whole files from being read: too many, too long, invisible characters."""
    if len(files) > MOST_FILES:
        return [_bound(f"at most {MOST_FILES} files", str(len(files)))]
    size = sum(len(text) for text in files.values())
    if size > MOST_CHARACTERS:
        return [_bound(f"at most {MOST_CHARACTERS} characters in all files", str(size))]
    found = []
    for name in sorted(files):
        if not name.isprintable() or not 0 < len(name) <= LONGEST_FILE_NAME:
            expected = f"a printable file name of at most {LONGEST_FILE_NAME} characters"
            found.append(_bound(expected, repr(name[:40])))
        elif hidden := hidden_character(files[name]):
            line, got = hidden
            found.append(
                RuleFinding(
                    file=name,
                    line=line,
                    expected="text that reads as it is",
                    got=f"the control or invisible character {got}",
                    help="retype the line; files are UTF-8 without a byte order mark",
                    code="hidden_character",
                )
            )
    return found[:MOST_FINDINGS]


def _read(
    statement: Statement, file: str, reader: Reader
) -> tuple[Form | None, tuple[RuleFinding, ...]]:
    if statement.fault:
        expected, advice = _FAULTS[statement.fault]
        return None, (_found(statement, file, statement.fault, expected, statement.got, advice),)
    return reader.read(statement, file)


def _rule(
    form: Form, statement: Statement, file: str
) -> tuple[Rule | None, tuple[RuleFinding, ...]]:
    """The rule of a form, or everything wrong with its annotations and its action."""
    given, found = form.annotations, list[RuleFinding]()

    def note(code: str, expected: str, got: str, advice: str) -> None:
        found.append(_found(statement, file, code, expected, got, advice))

    for name in sorted(given.keys() - set(ANNOTATIONS)):
        note(
            "unknown_annotation",
            "@id, @max, @approve or @grace",
            f"`@{name}`",
            "correct or remove it",
        )
    rule_id, longest, requirement, grace = "", timedelta(0), Requirement(), timedelta(0)
    try:
        rule_id = clean_name("rule", given["id"])
    except KeyError:
        note("no_id", "a name for the rule", "no `@id`", "evidence names rules by their `@id`")
    except AskedWrongly as fault:
        note("bad_id", "an `@id` of a-z, 0-9, `.`, `_`, `-`", _quote(given["id"]), fault.help)
    if form.effect == "permit":
        if not form.actions:
            advice = 'write `action == Action::"request"`; emergencies want a permit of their own'
            note("no_action", "a permit that names its action", "any action", advice)
        try:
            longest = parse_duration(given["max"])
        except KeyError:
            note("no_max", "the longest duration", "no `@max`", 'add one like `@max("2h")`')
        except AskedWrongly as fault:
            note("bad_max", 'an `@max` like "45m"', _quote(given["max"]), fault.help)
        try:
            requirement = parse_requirement(given["approve"])
        except KeyError:
            advice = 'name a group, or write `@approve("none")` if it may open by itself'
            note("no_approve", "who must approve", "no `@approve`", advice)
        except AskedWrongly as fault:
            note("bad_approve", fault.message.partition(", got ")[0].removeprefix("expected "),
                 _quote(given["approve"]), fault.help)  # fmt: skip
        try:
            grace = _grace(given.get("grace"), longest)
        except AskedWrongly as fault:
            note("bad_grace", fault.message.partition(", got ")[0].removeprefix("expected "),
                 _quote(given["grace"]), fault.help)  # fmt: skip
    else:
        for name in sorted(given.keys() & {"max", "approve", "grace"}):
            note("not_on_forbid", "a forbid without it", f"`@{name}`", "a forbid permits nothing")
    if found:
        return None, tuple(found)
    return Rule(
        id=rule_id,
        max=longest,
        requirement=requirement,
        effect=form.effect,
        text=statement.text,
        file=file,
        line=statement.line,
        form=form,
        grace=grace,
    ), ()


def _grace(text: str | None, longest: timedelta) -> timedelta:
    """The grace a permit gives; none unless written. Raises AskedWrongly."""
    if text is None:
        return timedelta(0)
    grace = parse_duration(text)
    if grace > LONGEST_GRACE or (longest and grace > longest):
        raise AskedWrongly(
            "bad_grace",
            f"expected a `@grace` of at most {show_duration(LONGEST_GRACE)} and of `@max`, "
            f"got {show_duration(grace)}",
            "shorten it, or make `@max` longer: grace is for finishing what runs",
        )
    return grace


def _quote(text: str) -> str:
    return f"`{text[:80]}`"


def _twice(first: Rule | None, second: Rule) -> tuple[RuleFinding, ...]:
    if first is None:
        return ()
    return (
        RuleFinding(
            file=second.file,
            line=second.line,
            expected="an `@id` of its own for each rule",
            got=f"`{second.id}` again, first at {first.file}:{first.line}",
            help="rename one: evidence and decisions name rules by it",
            code="duplicate_id",
        ),
    )


def _found(
    statement: Statement, file: str, code: str, expected: str, got: str, advice: str
) -> RuleFinding:
    return RuleFinding(
        file=file, line=statement.line, expected=expected, got=got, help=advice, code=code
    )


def _bound(expected: str, got: str) -> RuleFinding:
    return RuleFinding(
        file="",
        line=0,
        expected=expected,
        got=got,
        help="split or shorten the files",
        code="too_much",
    )
