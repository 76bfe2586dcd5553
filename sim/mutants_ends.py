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
      "flow.extending:arm_once", "receipt = connector.arm(hold, until, now)", "receipt = None"),
    M("extension-told-too-late", "the cloud is told a later deadline than the end that moved",
      "flow.extending:arm_once", "connector.arm(hold, until, now)",
      "connector.arm(hold, until + 600_000_000 * until.resolution, now)"),
    # Grace.
    M("grace-ignored-at-issue", "a credential is handed out in the grace after the window",
      "session:may_issue", "window = grant.window_ends_at", "window = grant.ends_at"),
    M("grace-given-twice", "the grace is added twice",
      "grant:intend", "window + opening.grace", "window + 2 * opening.grace"),
    M("grace-nobody-voted-on", "a grace that rules of today give counts for what was asked under others",
      "flow.granting:_decide", "grace = min(item.grace, verdict.grace)", "grace = verdict.grace"),
    # Panics.
    M("panic-leaves-one-out", "a panic leaves out the least risky of what it named",
      "flow.panicking:_sweep", "_end(house, panic, by_risk(still), comment)", "_end(house, panic, by_risk(still)[:-1], comment)"),
    M("panic-forgets-the-ready", "a panic ends what is open, and not what is approved and about to open",
      "flow.panicking:_concerns", "return grant.state in LIVE or _came_before(house, grant.request, panic)", "return grant.state in LIVE"),
    M("panic-leaves-requests", "what was asked before a panic is voted on after it",
      "flow.panicking:_sweep", "pending = _pending(house, panic)", "pending = []"),
    M("panic-of-another", "a panic about one person ends everybody's access",
      "flow.panicking:_grants", "principal=scope.name if scope.kind is ScopeKind.PRINCIPAL else None", "principal=None"),
    M("anybody-panics", "anybody may end everything",
      "flow.allowing:allow_panic", "if is_operator(house, actor) or own", "if True or own"),
    M("freeze-forgotten", "nothing stays shut once a panic is through",
      "flow.stopping:stopped", "return house.store.stopping(principal, role, now)",
      "found = house.store.stopping(principal, role, now)\n"
      "    return found if found and found.state is PanicState.CALLED else None"),
    M("freeze-of-the-target-forgotten", "a freeze of a target lets its roles open",
      "store.panic_reads:stopping", 'role.partition("/")[0]', "role"),
    # Sign-offs.
    M("own-sign-off", "who held access answers for its end, by another account that is an operator's",
      "flow.allowing:allow", "and not _same_person(house, actor, request.terms.principal)", ""),
    M("anybody-signs-off", "whoever may see a grant answers for its end",
      "flow.allowing:allow", "and is_operator(house, actor)", ""),
    # Divided duties, and errands between processes.
    M("closer-opens", "a process that may only close claims what is to be opened, and opens it",
      "shell.worker:Worker._opens", "return Duty.OPEN in self.house.duties and", "return True and",
      (("connectors.divided:Divided._must", "if duty not in self._duties:", "if False:"),
       ("shell.worker:Worker._handle", "if duty not in self.house.duties:", "if False:"))),
    M("opener-closes", "a process that may only open claims what is to be closed, and removes it",
      "shell.worker:Worker._claim", "closes=Duty.CLOSE in self.house.duties,", "closes=True,",
      (("connectors.divided:Divided._must", "if duty not in self._duties:", "if False:"),
       ("shell.worker:Worker._handle", "if duty not in self.house.duties:", "if False:"))),
    M("nobody-issues", "a process without any duty mints a credential itself",
      "flow.brokering:issue", "make = mint if Duty.OPEN in house.duties else ask_to_mint", "make = mint",
      (("connectors.divided:Divided._must", "if duty not in self._duties:", "if False:"),)),
    M("errand-of-nobody", "an errand without the mark of a process of ours is done",
      "flow.erranding:_asked_by_us", "ours = same_mark(bytes.fromhex(errand.proof), _mark(house, \"ask\", errand))", "ours = True"),
    M("openers-alone-know", "no journal that a closer reads names what a process that only opens opened",
      "flow.adopting:adopt_open", "not _opened_apart(house) or", "True or"),
    # An older database put back.
    M("restored-reopens-the-ready", "what the journal says was opened is opened again by a database that does not know",
      "flow.recovering:close_forgotten", "and (state is GrantState.READY or ends(lines[name]))", "and ends(lines[name])"),
    M("restored-never-closes", "what a database that was put back never knew stays in the cloud",
      "flow.recovering:find_unknown", "return frozenset(asked) - known", "return frozenset()"),
    M("stood-is-made-anew", "a cloud makes anew what stood before, and no end removes it",
      "connectors.simulated_cloud:SimulatedCloud.make_for", "if not hold.stood_before:", "if True:"),
    M("panic-forgets-the-unrowed", "a panic leaves open what only a closing journal names",
      "flow.panic_unrowed:_begin", "if not ends(book.lines[name])", "if False"),
    M("restored-forgets-ends", "what was ended early is open again after a database was put back",
      "flow.recovering:close_forgotten", "state in UNENDED", "state is GrantState.READY"),
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
    "stood-is-made-anew": ("stood-gone", 0),
    "panic-leaves-one-out": ("panic", 0),
    "panic-forgets-the-ready": ("panic", 0),
    "panic-leaves-requests": ("panic", 0),
    "panic-of-another": ("panic-mine", 0),
    "anybody-panics": ("panic", 0),
    "freeze-forgotten": ("panic", 0),
    "freeze-of-the-target-forgotten": ("panic", 0),
    "own-sign-off": ("signed", 0),
    "anybody-signs-off": ("signed", 0),
    "restored-reopens-the-ready": ("restored-later", 5),
    "restored-never-closes": ("restored-bare", 0),
    "panic-forgets-the-unrowed": ("restored-panic", 4),
    "restored-forgets-ends": ("journal-full", 2),
    "closer-opens": ("apart", 0),
    "opener-closes": ("apart", 0),
    "nobody-issues": ("apart-own", 0),
    "errand-of-nobody": ("apart-own", 0),
}

__all__ = ["AIMED", "MUTANTS"]
