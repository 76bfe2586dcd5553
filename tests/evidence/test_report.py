"""The report says what the events say, no more, and nothing typed by people acts in it."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from tests.evidence.made_log import DOCUMENTS, GRANT, TEXTS, fact, make_log, request_facts
from tidegate.base.fact import Fact
from tidegate.evidence import events as events_module
from tidegate.evidence.archive import read_pack
from tidegate.evidence.life import read_life
from tidegate.evidence.report import (
    REPORT_VERSION,
    Told,
    can_render,
    render_report,
    versions,
)
from tidegate.evidence.seal import read_event

# A line here never changes: packs that carry that version are compared with it for ever. A page
# that has to change is a new version with a function, a template and a line of its own.
GOLDEN = dict.fromkeys(  # without a later end both are the same
    (1, 2), "f6d58f2ed1a6c4d5da5e6171d8b8e72da1a115b29eb20499cb6b496d6291b3ec"
) | {3: "042786c17481c1b933d40821dd8a7c6c1e8c064d48939c2f90c911485ee5d115"}


SEARCHED = [
    fact("grant.searched", grant=GRANT, outcome="none_found"),
    fact("grant.searched", grant=GRANT, outcome="not_searched", why_not=["access_denied: no"]),
    fact(
        "grant.searched",
        grant=GRANT,
        outcome="found",
        found=[{"sort": "user", "what": "arn:x", "finding": "fd_1"}],
        why_not=["keys"],
    ),
]


def page(facts: list[Fact]) -> str:
    """The report of the pack over `facts`."""
    return read_pack(make_log(facts).pack()).report


class Tags(HTMLParser):
    """Every tag with its attributes, and the texts of one kind of tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect it."""
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("count", range(4, 10))
def test_report_never_says_more_than_the_events(count: int) -> None:
    """Before the last event, the page holds neither the word `gone` nor the proof's."""
    html = page(request_facts()[:count]).lower()
    assert "gone" not in html and "denied" not in html
    assert f"as of checkpoint {count}" in html


def test_report_of_an_ended_grant_says_how_it_is_known() -> None:
    """With the event that says so, the page says gone and the proof reached."""
    html = page(request_facts())
    assert "Gone: nobody can act under this grant any more" in html
    assert "denied: tried as that access, and refused by the cloud" in html
    assert "as of checkpoint" not in html


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        ({"residual_until": "2026-11-22T09:00:00.000Z", "still_held_by": ""}, "may act until 2026"),
        ({"still_held_by": "arn:standing"}, "Ended, still held by standing access: arn:standing"),
    ],
)
def test_removed_is_not_called_more_than_removed(removed: dict[str, str], said: str) -> None:
    """While a session may act, or standing access holds it, the headline says exactly that."""
    html = page([*request_facts()[:8], fact("grant.removed", grant=GRANT, **removed)])
    assert said in html and "gone" not in html.lower()


def test_contradicted_removal_is_closing_again() -> None:
    """What was called removed and then acted is not shown as removed."""
    facts = [*request_facts()[:9], fact("grant.contradicted", grant=GRANT, why="seen acting")]
    html = page(facts)
    assert "<h1>Closing as of checkpoint 10</h1>" in html
    assert "Earlier sessions may act until" not in html


def test_failed_grant_is_told_as_never_opened() -> None:
    """A grant that failed is over, and never was open."""
    facts = [*request_facts()[:5], fact("grant.failed", grant=GRANT, cause="cloud_refused")]
    html = page(facts)
    assert "Never opened: cloud refused" in html and "as of checkpoint" not in html


def test_typed_texts_are_inert() -> None:
    """Markup in a reason stays text; a formula never starts a cell; nothing can run or load."""
    html = page(request_facts())
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html
    assert "“=HYPERLINK(&#34;http://x&#34;) go on”" in html
    page_tags = Tags(html).tags
    names = {tag for tag, _ in page_tags}
    assert not names & {"script", "iframe", "img", "link", "object", "form", "a", "base"}
    assert not [name for _, attrs in page_tags for name in attrs if name.startswith("on")]
    assert "default-src 'none'" in html


def test_direction_and_control_characters_of_clouds_are_blanked() -> None:
    """A cloud's message cannot reorder or hide what stands beside it."""
    why = "no\u202egnol\x1b[31m\r\n=1+1"
    facts = [*request_facts()[:5], fact("grant.failed", grant=GRANT, cause="x", why=why)]
    html = page(facts)
    assert not any(ch in html for ch in "\u202e\x1b\r")


def test_page_can_be_read_by_a_screen_reader() -> None:
    """Language, one first heading, headings in order, and table headers with a scope."""
    tags = Tags(page(request_facts())).tags
    assert ("html", {"lang": "en"}) in tags
    levels = [int(tag[1]) for tag, _ in tags if tag in {"h1", "h2", "h3"}]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(attrs.get("scope") in {"col", "row"} for tag, attrs in tags if tag == "th")


@pytest.mark.parametrize("version", GOLDEN)
def test_changed_page_needs_a_new_version(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same events render to the same bytes for ever, in every version there ever was."""
    first = {name: fields for (name, v), fields in events_module.EARLIER.items() if v == 1}
    monkeypatch.setattr(events_module, "LATEST", {})
    monkeypatch.setattr(events_module, "EVENTS", {**events_module.EVENTS, **first})
    told_of = request_facts() + (SEARCHED if version > 2 else [])
    log = make_log([_cut_to(made, first) for made in told_of])
    events = [read_event(leaf) for leaf in log.leaves]
    life = read_life(events, GRANT)
    told = Told(life=life, events=events, head=log.head(), texts=TEXTS, documents=DOCUMENTS)
    assert sha256(render_report(told, version).encode()).hexdigest() == GOLDEN[version]


def _cut_to(made: Fact, first: Mapping[str, Mapping[str, str]]) -> Fact:
    """The fact as it was sealed when its event had only the `first` fields."""
    fields = first.get(made.name, made.data)
    return replace(made, data={key: made.data[key] for key in fields})


def test_no_version_is_ever_dropped() -> None:
    """Every version from the first to the one new packs get can be rendered, and no other."""
    assert versions() == tuple(range(1, REPORT_VERSION + 1)) == tuple(GOLDEN)
    assert not any(can_render(version) for version in (-1, 0, REPORT_VERSION + 1))
    assert read_pack(make_log().pack()).manifest.report == REPORT_VERSION


def test_other_grant_of_the_request_is_told_apart() -> None:
    """A request with two grants: the other one's events are marked, its end is not this one's."""
    other = [
        Fact(name=f.name, subject=f.subject, actor=f.actor, data={**f.data, "grant": "gr_two"})
        for f in request_facts()[3:]
        if "grant" in f.data
    ]
    html = page([*request_facts()[:7], *other])
    assert "another grant of this request" in html and "<h1>Open as of" in html


def test_report_with_the_end_it_had_at_first() -> None:
    """A later end is told with who voted for it, and it is the one that is due."""
    vote = {"voter": "pr_cy", "choice": "approve", "at": "2026-11-18T12:00:00.000Z"}
    moved = fact(
        "grant.extended",
        grant=GRANT,
        extension="rq_more",
        ends_at="2026-11-18T13:13:13.000Z",
        votes=[vote],
    )
    facts = request_facts()
    opened = next(i for i, made in enumerate(facts) if made.name == "grant.opened")
    told = page([*facts[: opened + 1], moved])
    assert "rq_more" in told and "Vote of pr_cy" in told
    due = told.partition(">Due<")[2][:200]
    assert "2026-11-18 13:13:13 UTC" in due


def test_pack_that_hides_what_a_search_for_side_doors_came_to() -> None:
    """Whoever reads the report of an ended grant reads whether it was searched, and what stands."""
    assert side_doors(page([*request_facts(), *SEARCHED])) == [
        "searched, none found",
        "not searched: access_denied: no",
        "found user arn:x (fd_1); not searched: keys",
    ]


def test_pack_made_before_its_search_looks_searched() -> None:
    """An end without a search says so; one that was called back takes its search's words along."""
    facts = request_facts()
    assert side_doors(page(facts[:8])) == []
    assert side_doors(page(facts)) == ["no search is sealed"]
    found = fact("grant.searched", grant=GRANT, outcome="none_found")
    back = fact("grant.contradicted", grant=GRANT, why="seen acting")
    assert side_doors(page([*facts[:9], found, back])) == []
    again = [fact("leftover.closed", grant=GRANT)]
    assert side_doors(page([*facts, found, *again])) == [
        "searched, none found",
        "what was made meanwhile to come back by is not searched yet",
    ]


def side_doors(html: str) -> list[str]:
    """What the stage says of side doors."""
    return [part.partition("</dd>")[0] for part in html.split("<dt>Side doors</dt><dd>")[1:]]
