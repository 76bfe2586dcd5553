"""The seeded bugs about ends that move, grace, panics, sign-offs and divided duties, and where
each is found.
"""

from collections.abc import Mapping

from sim.mutate import Mutant

M = Mutant  # one line a bug

MUTANTS: tuple[M, ...] = (
    # Extensions.
    M("extension-unvoted", "the votes on a grant count for its extension too",
      "approve:still_missing", "if needs}", "if needs and not request.terms.extends}",
      (("flow.extending:_longer", "votes_lack(house, request,", "votes_lack(house, house.store.request(grant.request),"),)),
    M("extension-by-one-vote", "one vote is enough for an extension",
      "approve:still_missing", "if needs}", "if needs and not (request.terms.extends and request.votes)}",
      (("flow.extending:_longer", "    if lacking:", "    if False:"),)),
    M("extension-beyond-the-cap", "the longest window of a rule is held to the extension alone, not to all of it",
      "flow.weighing:judge_longer", "duration=window + by - since", "duration=by"),
    M("extension-moves-further", "an end moves a minute further than was approved",
      "flow.extending:_longer", "until=window + terms.duration + grace", "until=window + terms.duration + grace + MOST_AT_ONCE * grace.__class__(seconds=1)",
      (("extend:extend", "<= asked.until:", "< longer.until + longer.until.resolution:"),)),
    M("extension-after-the-end", "an end that was reached moves all the same",
      "extend:check_may_extend", "if now >= window:", "if False:"),
    M("extension-never-told", "the cloud keeps the old deadline when an end moves",
      "flow.extending:arm_once", "receipt = connector.arm(hold, assignment.deadline_at, now)", "receipt = None"),
    M("extension-told-too-late", "the cloud is told a later deadline than the end that moved",
      "flow.extending:arm_once", "connector.arm(hold, assignment.deadline_at, now)",
      "connector.arm(hold, assignment.deadline_at + 600 * assignment.deadline_at.resolution * 1_000_000, now)"),
    # Grace.
    M("grace-ignored-at-issue", "a credential is handed out in the grace after the window",
      "session:may_issue", "window = grant.window_ends_at", "window = grant.ends_at"),
    M("grace-given-twice", "the grace is added twice",
      "grant:intend", "window + opening.grace", "window + 2 * opening.grace"),
    M("grace-nobody-voted-on", "a grace that rules of today give counts for what was asked under others",
      "flow.granting:_decide", "grace = min(item.grace, verdict.grace)", "grace = verdict.grace"),
)  # fmt: skip

AIMED: Mapping[str, tuple[str, int]] = {
    "extension-unvoted": ("longer", 0),
    "extension-by-one-vote": ("longer", 0),
    "extension-beyond-the-cap": ("longer", 0),
    "extension-moves-further": ("longer", 0),
    "extension-after-the-end": ("longer-after", 0),
    "extension-never-told": ("longer-armed", 0),
    "extension-told-too-late": ("longer", 0),
    "grace-ignored-at-issue": ("graced", 0),
    "grace-given-twice": ("graced", 0),
    "grace-nobody-voted-on": ("graced-later", 0),
}

__all__ = ["AIMED", "MUTANTS"]
