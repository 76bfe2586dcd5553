"""What is answered: one dataclass a resource. OpenAPI is drawn from these.

Instants are RFC 3339 in UTC with milliseconds; durations are whole seconds. `says` is one sentence
for people: what happened, and what happens next.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A principal by its id, and by the name people know.

    Names are free text and may be alike; `login` is the subject its issuer knows it by.
    """

    id: str
    name: str
    login: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """A new token. `token` is said this once and kept nowhere."""

    token: str
    token_id: str
    principal: Person
    label: str
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldView:
    """One access the caller has now; `warned`: its end is near, and they were told."""

    grant: str
    role: str
    window_ends_at: str
    ends_at: str
    extended_seconds: int
    warn_at: str
    warned: bool
    remaining_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeView:
    """Who the token belongs to, as known now. `groups` holds the ancestors too.

    `holds`: what they have open now, newest first and at most twenty; `GET /api/grants` has all.
    """

    id: str
    name: str
    login: str
    groups: list[str]
    operator: bool
    auditor: bool
    holds: list[HoldView]
    token_id: str
    token_until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleView:
    """A role that can be asked for.

    `native_deadline`: the cloud itself refuses after the end, also when every Tidegate process is
    dead. `proof`: the best proof its end can reach. `trouble` says why it cannot be opened at all.
    """

    id: str
    title: str
    kind: str
    exposure_seconds: int | None
    unattended_seconds: int | None
    exposure: str
    native_deadline: bool | None
    floor_seconds: int | None
    proof: str | None
    trouble: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetView:
    """A target with its roles."""

    id: str
    owner: str
    labels: list[str]
    time_zone: str
    roles: list[RoleView]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetsView:
    """Every target of the catalogue."""

    targets: list[TargetView]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemView:
    """One role of a request. `missing` is what its requirement lacks now, empty when decided.

    `kind` to `allows` are of the catalogue entry `role_digest` names, which the request's digest
    covers: what would be held, whatever the catalogue says today. `native` holds the cloud's own
    ids. What calls in `allows` make outlives the end. `changed` is a sentence when the catalogue
    in force says otherwise; `title`, which no digest covers, is then empty.

    `ends_by` is the instant it ends, `grace_seconds` in it; while nobody knows when it opens, the
    latest it can end; null when it is ending already or never opens. `ends` says which, in words.
    """

    role: str
    title: str
    role_digest: str
    kind: str
    connector: str
    account: str
    native: dict[str, str]
    allows: list[str]
    changed: str
    carrier: str
    requirement: str
    rules: list[str]
    grace_seconds: int
    ends_by: str | None
    ends: str
    missing: list[str]
    exposure_seconds: int | None
    unattended_seconds: int | None
    exposure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteView:
    """A vote. `comment` is null when there is none or it was erased."""

    id: str
    voter: Person
    choice: str
    digest: str
    groups: list[str]
    comment: str | None
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """What waits on an account before a grant. `says` puts it in words.

    `usable_in_seconds` is an estimate by the account's real pace, null when nothing paces it, the
    grant is ending, or what holds it up has no pace; `end_late_seconds` how late its latest end
    is, null when none is. With `at_least`, `ahead` and `usable_in_seconds` are the least it is.
    `gate` has the codes of the health gate's checks that have openings wait, empty when none does.
    """

    ahead: int
    at_least: bool
    usable_in_seconds: int | None
    end_late_seconds: int | None
    gate: list[str]
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestView:
    """A request. A vote must name its `digest`. `reason` is null when it was erased.

    `extends` is null, or the grant whose end it would move: from `extends_from` to `extends_until`,
    graces included; `applied_at` is when it did.
    """

    id: str
    state: str
    says: str
    principal: Person
    items: list[ItemView]
    duration_seconds: int
    start: str | None
    reason: str | None
    ticket: str | None
    emergency: bool
    digest: str
    rules_digest: str
    filed_at: str
    decide_by: str
    decided_at: str | None
    votes: list[VoteView]
    code: str
    why: str
    grants: list[str]
    extends: str | None
    extends_from: str | None
    extends_until: str | None
    applied_at: str | None
    queue: QueueView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeView:
    """Something to tell `audience` about `subject`; `delivered_at` is null until it was told."""

    id: str
    kind: str
    subject: str
    audience: str
    made_at: str
    payload: dict[str, str]
    delivered_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticesView:
    """A page of notices, newest first. `next_before` asks for the next one; null: no more."""

    notices: list[NoticeView]
    next_before: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsView:
    """A page of requests, newest first. `next_before` asks for the next one; null: no more."""

    requests: list[RequestView]
    next_before: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WeighedItem:
    """What the rules in force say of one role."""

    role: str
    allowed: bool
    carrier: str
    requirement: str
    rules: list[str]
    grace_seconds: int
    max_seconds: int | None
    code: str
    why: str
    exposure_seconds: int
    unattended_seconds: int | None
    exposure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewView:
    """What filing would decide. Nothing is filed."""

    allowed: bool
    code: str
    why: str
    items: list[WeighedItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantView:
    """A grant. `remaining_seconds`, of its window, is null until its end is fixed.

    From `window_ends_at` on no session is issued; running work may finish until `ends_at`, which is
    `grace_seconds` later. `warn_at` is when its holder is told of this end, `warned` if they were.

    `residual_until` lies ahead while a session taken before may still act. `proof` is how its end
    is known; empty until it is over. `outcome` and `tries`: what the last calls to the cloud gave.

    `side_doors`: what each search for them came to, in words. Null until the end is read back,
    for its holder, and wherever it is not asked for by its id.
    """

    id: str
    request: str
    principal: Person
    role: str
    state: str
    says: str
    duration_seconds: int
    opens_at: str
    claim_by: str
    window_ends_at: str | None
    ends_at: str | None
    grace_seconds: int
    extended_seconds: int
    warn_at: str | None
    warned: bool
    remaining_seconds: int | None
    opened_at: str | None
    closing_at: str | None
    end_reason: str
    removed_at: str | None
    residual_until: str | None
    gone_at: str | None
    proof: str
    cause: str
    outcome: str
    tries: int
    sessions: int
    still_held_by: str
    exposure_seconds: int | None
    unattended_seconds: int | None
    exposure: str
    queue: QueueView | None = None
    side_doors: list[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StillView:
    """A grant of a panic that is not gone or removed, and why."""

    id: str
    role: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PanicView:
    """A panic and how it stands, in four counts: `gone`, `removed`, `closing`, `unverified`.

    `gone` includes what never opened; a session of what is `removed` may act until
    `residual_until` (null: no longer than now). `swept`: the end of everything in scope is sealed,
    so the counts are of all there is. `safe`: swept, and everything is gone or removed.
    `sealed` is false while the evidence cannot be written: then `id` is empty, ends go on from the
    closing journal, and the panic is sealed later. `still` names the riskiest that are closing or
    unverified, at most twenty.
    """

    id: str
    scope: str
    name: str
    says: str
    sealed: bool
    swept: bool
    safe: bool
    called_by: Person | None
    called_at: str
    frozen_until: str | None
    frozen: bool
    grants: int
    requests: int
    gone: int
    removed: int
    residual_until: str | None
    closing: int
    unverified: int
    still: list[StillView]


@dataclass(frozen=True, slots=True, kw_only=True)
class PanicsView:
    """Panics, newest first."""

    panics: list[PanicView]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """A trial as sealed: somebody's word, no proof. `expected` is what it should be in its phase.

    `own_clock` is false when `tried_at` is our instant, because theirs could not be believed.
    """

    grant: str
    request: str
    phase: str
    outcome: str
    expected: str
    as_it_should: bool
    tried_at: str
    own_clock: bool
    residual_until: str | None
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantsView:
    """A page of grants, newest first. `next_before` asks for the next one; null: no more."""

    grants: list[GrantView]
    next_before: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingView:
    """A finding. `remedy` is the command that mends it; empty when Tidegate does so by itself.

    `owner` is a group; `assigned_to` a group or person, empty: the owner's. `times` counts how
    often it came. `reason` is null when there is none or it was erased. `next` says what
    to do about it; of a closed one, how it was closed.
    """

    id: str
    kind: str
    severity: str
    state: str
    target: str
    role: str
    sort: str
    what: str
    says: str
    remedy: str
    by: str
    owner: str
    assigned_to: str
    assigned_name: str
    principal: Person | None
    grant: str
    times: int
    first_seen_at: str
    last_seen_at: str
    closed_at: str | None
    closed_how: str
    closed_by: Person | None
    reason: str | None
    accepted_until: str | None
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One event of a finding's history. `reason` is null when there is none or it was erased."""

    idx: int
    at: str
    name: str
    by: Person | None
    says: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingStory:
    """A finding with its history, oldest first."""

    finding: FindingView
    history: list[StepView]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsView:
    """A page of findings, newest first. `next_before` asks for the next one; null: no more."""

    findings: list[FindingView]
    next_before: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OldView:
    """One of the findings that are open longest. `state` is `open` or `assigned`."""

    id: str
    kind: str
    severity: str
    state: str
    target: str
    first_seen_at: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFindingsView:
    """What is not closed: how many in all, of high severity, by kind; the oldest few; what next.

    `says` is the same for people; `next` is empty when nothing is open.
    """

    open: int
    high: int
    by_kind: dict[str, int]
    oldest: list[OldView]
    says: str
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """In short: the database answers with this log size, and these findings are open.

    `status` is `findings` when any is, else `ok`.
    """

    status: str
    at: str
    log_size: int
    findings: OpenFindingsView
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineView:
    """How many hold a role by what was called known, and when that was."""

    role: str
    count: int
    taken_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselinesView:
    """The baselines of a target, role by role."""

    target: str
    roles: list[BaselineView]
