"""Rule files: what loads, and what is said of what does not."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.policy.asking import EXAMPLES, examples, findings, forbid, permit
from tidegate.base.canonical import digest
from tidegate.policy.finding import MOST_FINDINGS, Level
from tidegate.policy.rules import RulesBroken, load_rules
from tidegate.policy.scanner import DEEPEST


def test_examples_load_as_written() -> None:
    """A rule keeps its text, file and line, and reads its annotations."""
    rules = examples().rules
    admin = rules["prod-admin"]
    assert (str(admin.max), admin.requirement.text) == ("2:00:00", "2 of group:sre-leads")
    assert (admin.file, admin.line, admin.effect) == ("prod.cedar", 3, "permit")
    assert admin.text.startswith('@id("prod-admin")')
    assert admin.text.endswith('"INC-*" };')
    assert (rules["no-friday-nights"].effect, rules["no-friday-nights"].line) == ("forbid", 7)


def test_no_rules_is_a_sound_set() -> None:
    """Nothing, or comments only, loads: it refuses everything."""
    assert load_rules({}).rules == {}
    assert load_rules({"a.cedar": "// nothing yet\n"}).rules == {}


def test_digest_is_of_the_document_and_of_every_byte() -> None:
    """A changed comment or file name is another version; the order of files is not."""
    one, two = ("a.cedar", permit("one")), ("b.cedar", permit("two"))
    base = load_rules(dict([one, two]))
    assert digest(base.document()) == base.digest
    assert load_rules(dict([two, one])) == base
    assert load_rules({one[0]: one[1] + "// x\n", two[0]: two[1]}) != base
    assert load_rules({one[0]: one[1], "c.cedar": two[1]}) != base


def test_document_that_leaves_out_what_decides() -> None:
    """A stored rule set has every file, name and text: loaded again it is the same rule set."""
    stored = examples().document()["files"]
    again = load_rules({entry["name"]: entry["text"] for entry in stored})  # type: ignore[index,union-attr,call-overload,misc]
    assert examples() == again
    assert list(examples().rules) == list(again.rules)


GOOD = permit("fine")
HEAD = '@id("x") @max("2h") @approve("none")\n'


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (HEAD + 'permit (principal, action == Action::"request" resource);', "syntax_error", 2),
        (HEAD + 'permit (principal, action == Action::"request", resource)', "no_end", 1),
        (GOOD + '@id("a\npermit (principal', "open_string", 3),
        (permit("a").rstrip(";\n") + "\n" + permit("b"), "syntax_error", 1),
        (";", "syntax_error", 1),
        ("/* c */ " + GOOD, "syntax_error", 1),
        (HEAD + '@id("y")' + 'permit (principal, action == Action::"request", resource);',
         "syntax_error", 1),
        (permit("a", scope='\nresource in Targt::"x"'), "unknown_entity_type", 3),
        (permit("a", when="\ncontext.tikcet == 1"), "unknown_attribute", 3),
        (permit("a", when="\ncontext has tikcet"), "unknown_attribute", 3),
        (permit("a", when="principal has mail"), "unknown_attribute", 2),
        (permit("a", when='principal.hasTag("x")'), "unknown_attribute", 1),
        (permit("a", when='context.ticket == "INC-1"'), "unguarded_attribute", 2),
        (permit("a", when='context.hour == "x"'), "not_valid", 1),
        (permit("a", scope='resource == Target::"x"'), "impossible_scope", 1),
        (HEAD + 'permit (principal, action == Action::"reqest", resource);', "unknown_action", 2),
        (HEAD + "permit (principal, action, resource);", "no_action", 1),
        (HEAD + 'permit (principal == ?principal, action == Action::"request", resource);',
         "template", 1),
        (forbid("a", when="context.weekday == 0"), "never_true", 2),
        (forbid("a", when="[6, 8].contains(context.end_weekday)"), "never_true", 2),
        (forbid("a", when="24 == context.end_hour"), "never_true", 2),
        (forbid("a", when='resource in Group::"x"'), "never_true", 2),
        (forbid("a", when='principal == Group::"x"'), "never_true", 2),
        (forbid("a", when='principal in [Target::"y"]'), "never_true", 2),
        (forbid("a", when='Group::"a" in Group::"b"'), "never_true", 1),
        (forbid("a", when="resource is Target"), "never_true", 2),
        (forbid("a", when='resource is Role in Group::"x"'), "never_true", 2),
        (GOOD.replace('@id("fine")', ""), "no_id", 1),
        (GOOD.replace('"fine"', '""'), "bad_id", 1),
        (GOOD.replace('@id("fine")', "@id"), "bad_id", 1),
        (permit("Prod"), "bad_id", 1),
        (permit("a b"), "bad_id", 1),
        (permit("a\\u{202e}b"), "bad_id", 1),
        (GOOD.replace('@max("2h")', ""), "no_max", 1),
        (permit("a", longest="2 hours"), "bad_max", 1),
        (permit("a", longest="0h"), "bad_max", 1),
        (permit("a", longest="400d"), "bad_max", 1),
        (GOOD.replace('@approve("none")', ""), "no_approve", 1),
        (permit("a", approve="2 of sre"), "bad_approve", 1),
        (permit("a", approve="99 of group:sre"), "bad_approve", 1),
        (GOOD.replace("@approve", "@aprove"), "unknown_annotation", 1),
        ('@max("1h")\n' + forbid("a"), "not_on_forbid", 1),
        ('@approve("none")\n' + forbid("a"), "not_on_forbid", 1),
        (permit("a") + permit("a"), "duplicate_id", 3),
        (permit("a", when="(" * DEEPEST * 5 + "true" + ")" * DEEPEST * 5), "too_deep", 1),
        (permit("a", when='"' + "x" * 20_000 + '" == "x"'), "too_long", 1),
        (permit("a", when="true" + " && true" * 150), "too_deep", 1),
        (permit("a") + "// \u202e\n", "hidden_character", 3),
        ("\ud800", "hidden_character", 1),
    ],
)  # fmt: skip
def test_broken_rule_is_named_at_its_line(text: str, code: str, line: int) -> None:
    """Each kind of mistake has a code, the line it stands on, and says what to do."""
    found = [finding for finding in findings(text) if finding.code == code]
    assert [line] == [finding.line for finding in found], findings(text)
    assert found[0].file == "a.cedar"
    assert found[0].expected and found[0].got and found[0].help
    assert Level.ERROR is found[0].level
    assert found[0].message.isprintable()


def test_duplicate_id_is_found_across_files() -> None:
    """The second of two rules of one name is named, and where the first stands."""
    (found,) = findings(permit("same"), GOOD + forbid("same"))
    assert (found.file, found.line, found.code) == ("b.cedar", 3, "duplicate_id")
    assert "a.cedar:1" in found.got


def test_one_broken_rule_loads_nothing() -> None:
    """All findings of all files come at once, in order, and the error speaks of the first."""
    with pytest.raises(RulesBroken) as caught:
        load_rules({"b.cedar": permit("B"), "a.cedar": GOOD + permit("a", longest="x")})
    broken = caught.value
    assert [finding.where for finding in broken.findings] == ["a.cedar:3", "b.cedar:1"]
    assert broken.message.startswith("a.cedar:3: expected an `@max`")
    assert broken.message.endswith("(and 1 more)")
    assert broken.help
    assert (broken.code, broken.status) == ("rules_broken", 400)


def test_findings_and_files_are_bounded() -> None:
    """A file of nonsense gives a report of bounded length; too much text is not even read."""
    assert len(findings(";" * (MOST_FINDINGS * 5))) == MOST_FINDINGS
    assert [finding.code for finding in findings("x" * 4_000_001)] == ["too_much"]
    with pytest.raises(RulesBroken):
        load_rules({f"{number}.cedar": "" for number in range(1_001)})
    with pytest.raises(RulesBroken):
        load_rules({"a\nb.cedar": ""})


def test_too_many_rules_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on rules holds over all files together."""
    monkeypatch.setattr("tidegate.policy.rules.MOST_RULES", 2)
    assert findings(permit("a"), permit("b")) == ()
    assert [finding.code for finding in findings(permit("a"), permit("b") + permit("c"))] == [
        "too_much"
    ]


@given(st.text(max_size=200) | st.text(alphabet='@id("a");permit{}[]&|.\\/ \n\r', max_size=200))
def test_any_text_loads_or_is_refused_in_words(text: str) -> None:
    """No text raises anything but RulesBroken."""
    for finding in findings(text):
        assert finding.message.isprintable()


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_mangled_examples_load_or_are_refused_in_words(seed: int, cuts: int) -> None:
    """Sound files with pieces cut out, doubled or swapped never raise anything else either."""
    text, chance = (EXAMPLES / "everyday.cedar").read_text(), random.Random(seed)
    for _ in range(cuts):
        at = chance.randrange(len(text))
        to = at + chance.randrange(20)
        text = text[:at] + chance.choice(["", text[at:to] * 2, ";", '"', "(", "//"]) + text[to:]
    findings(text)
