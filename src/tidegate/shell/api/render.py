"""Things to views: personal texts resolved, missing votes counted, exposure put in words.

Reads only. Decides nothing: who may see what was asked before.
"""

from datetime import timedelta
from typing import Any

from tidegate.approve import still_missing
from tidegate.base.errors import AskedWrongly, TidegateError
from tidegate.base.when import Instant, whole_seconds, wire
from tidegate.catalogue import Role, Target, role_of_entry
from tidegate.connectors.port import Exposure, Trouble
from tidegate.extend import warn_at
from tidegate.flow.allowing import is_auditor, is_operator
from tidegate.flow.asking import Weighed
from tidegate.flow.finding import OpenFindings
from tidegate.flow.house import Actor, House
from tidegate.flow.people import approvers, shown_name
from tidegate.flow.queueing import queue_of
from tidegate.flow.reading import entry_of
from tidegate.grant import Grant, GrantState, ends_by
from tidegate.request import Item, Request, RequestState, Vote
from tidegate.shell.api.views import (
    GrantView,
    HoldView,
    ItemView,
    MeView,
    OldView,
    OpenFindingsView,
    Person,
    PreviewView,
    QueueView,
    RequestView,
    RoleView,
    TargetView,
    TokenView,
    VoteView,
    WeighedItem,
)
from tidegate.shell.api.words import (
    change_says,
    ends_says,
    exposure_says,
    grant_says,
    open_next,
    open_says,
    request_says,
)
from tidegate.store import Token

MOST_HELD = 20  # in the answer to who somebody is: a person works with a few at a time


class Renderer:
    """Renders the things of one answer at one instant; looks each name and role up once."""

    def __init__(self, house: House, now: Instant) -> None:
        self._house = house
        self._now = now
        self._persons: dict[str, Person] = {}
        self._exposures: dict[str, Exposure | None] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._gates: dict[str, tuple[Trouble, ...]] = {}

    def request(self, request: Request) -> RequestView:
        """A request as it is now."""
        terms = request.terms
        missing = self._missing(request)
        lacking = [need for needs in missing.values() for need in needs]
        grants = self._grants_of(request)
        by_role = {grant.role: grant for grant in grants}
        return RequestView(
            id=request.id,
            state=request.state.value,
            says=request_says(
                request, list(dict.fromkeys(lacking)), [grant.id for grant in grants]
            ),
            principal=self.person(terms.principal),
            items=[
                self._item(request, item, missing.get(item.role, []), by_role.get(item.role))
                for item in terms.items
            ],
            duration_seconds=whole_seconds(terms.duration),
            start=_wire(terms.start),
            reason=self._house.store.text(terms.reason),
            ticket=terms.ticket,
            emergency=terms.emergency,
            digest=request.digest,
            rules_digest=terms.rules_digest,
            filed_at=wire(request.filed_at),
            decide_by=wire(request.decide_by),
            decided_at=_wire(request.decided_at),
            votes=[self._vote(vote) for vote in request.votes],
            code=request.code,
            why=request.why,
            grants=[grant.id for grant in grants],
            extends=terms.extends.grant if terms.extends else None,
            extends_from=wire(terms.extends.ends_at) if terms.extends else None,
            extends_until=wire(terms.extends.until) if terms.extends else None,
            applied_at=_wire(request.applied_at),
            queue=self._first_queue(grants),
        )

    def grant(self, grant: Grant, side_doors: list[str] | None = None) -> GrantView:
        """A grant as it is now, with what is told of its side doors."""
        exposure = self._exposure(grant.role_digest)
        if grant.ends_at is not None:  # sealed with the intent
            exposure = Exposure(attended=grant.exposure, unattended=grant.unattended)
        window = grant.window_ends_at
        left = max(window - self._now, timedelta(0)) if window is not None else None
        return GrantView(
            id=grant.id,
            request=grant.request,
            principal=self.person(grant.principal),
            role=grant.role,
            state=grant.state.value,
            says=grant_says(grant, self._now),
            duration_seconds=whole_seconds(grant.duration),
            opens_at=wire(grant.opens_at),
            claim_by=wire(grant.claim_by),
            window_ends_at=_wire(window),
            ends_at=_wire(grant.ends_at),
            grace_seconds=whole_seconds(grant.grace),
            extended_seconds=whole_seconds(grant.extended),
            warn_at=_wire(warn_at(grant, self._house.warn_before)),
            warned=grant.warned,
            remaining_seconds=_seconds(left),
            opened_at=_wire(grant.opened_at),
            closing_at=_wire(grant.closing_at),
            end_reason=grant.end_reason,
            removed_at=_wire(grant.removed_at),
            residual_until=_wire(grant.residual_until),
            gone_at=_wire(grant.gone_at),
            proof=grant.proof,
            cause=grant.cause,
            outcome=grant.outcome,
            tries=grant.tries,
            sessions=grant.sessions,
            still_held_by=grant.still_held_by,
            exposure_seconds=_attended(exposure),
            unattended_seconds=_unattended(exposure),
            exposure=exposure_says(exposure),
            queue=self._queue(grant),
            side_doors=side_doors,
        )

    def person(self, principal_id: str) -> Person:
        """A principal as people know it."""
        if principal_id not in self._persons:
            self._persons[principal_id] = Person(
                id=principal_id,
                name=shown_name(self._house, principal_id),
                login=self._house.store.login_of(principal_id),
            )
        return self._persons[principal_id]

    def preview(self, weighed: Weighed) -> PreviewView:
        """What the rules in force say of an ask."""
        code, why = weighed.refusal or ("allowed", "the rules permit it")
        items = [
            WeighedItem(
                role=item.role,
                allowed=verdict.allowed,
                carrier=verdict.carrier,
                requirement=item.requirement,
                rules=list(verdict.rules),
                grace_seconds=whole_seconds(verdict.grace),
                max_seconds=_seconds(verdict.max),
                code=verdict.code,
                why=verdict.why,
                exposure_seconds=whole_seconds(exposure.attended),
                unattended_seconds=_seconds(exposure.unattended),
                exposure=exposure_says(exposure),
            )
            for item, verdict, exposure in zip(
                weighed.terms.items, weighed.verdicts, weighed.exposures, strict=True
            )
        ]
        return PreviewView(allowed=weighed.refusal is None, code=code, why=why, items=items)

    def target(self, target: Target) -> TargetView:
        """A target with its roles, by id."""
        roles = self._house.laws.catalogue.roles
        return TargetView(
            id=target.id,
            owner=target.owner,
            labels=list(target.labels),
            time_zone=target.time_zone,
            roles=[
                _role(self._house, target, roles[name])
                for name in sorted(roles)
                if roles[name].target == target.id
            ],
        )

    def me(self, actor: Actor, token: Token) -> MeView:
        """The caller."""
        return MeView(
            id=actor.id,
            name=self.person(actor.id).name,
            login=self.person(actor.id).login,
            groups=sorted(actor.groups),
            operator=is_operator(self._house, actor),
            auditor=is_auditor(self._house, actor),
            holds=self._holds(actor),
            token_id=token.id,
            token_until=wire(token.until),
        )

    def _holds(self, actor: Actor) -> list[HoldView]:
        """What the caller has open now."""
        open_now = self._house.store.grants(
            principal=actor.id, states=frozenset({GrantState.OPEN}), limit=MOST_HELD
        )
        found: list[HoldView] = []
        for grant in open_now:
            window, at = grant.window_ends_at, warn_at(grant, self._house.warn_before)
            if window is None or grant.ends_at is None or at is None or window <= self._now:
                continue
            found.append(
                HoldView(
                    grant=grant.id,
                    role=grant.role,
                    window_ends_at=wire(window),
                    ends_at=wire(grant.ends_at),
                    extended_seconds=whole_seconds(grant.extended),
                    warn_at=wire(at),
                    warned=grant.warned,
                    remaining_seconds=whole_seconds(window - self._now),
                )
            )
        return found

    def token(self, text: str, token: Token) -> TokenView:
        """A token just made, with its text."""
        return TokenView(
            token=text,
            token_id=token.id,
            principal=self.person(token.principal),
            label=token.label,
            until=wire(token.until),
        )

    def _queue(self, grant: Grant) -> QueueView | None:
        found = queue_of(self._house, grant, self._now, self._gates)
        if found is None or not found.text:
            return None
        return QueueView(
            ahead=found.ahead,
            at_least=found.at_least,
            usable_in_seconds=_seconds(found.usable_in),
            end_late_seconds=_seconds(found.late),
            gate=list(dict.fromkeys(trouble.code for trouble in found.shut)),
            says=found.text,
        )

    def _first_queue(self, grants: list[Grant]) -> QueueView | None:
        """Of the first grant of a request that waits for one."""
        queues = (self._queue(grant) for grant in sorted(grants, key=lambda one: one.id))
        return next((queue for queue in queues if queue is not None), None)

    def _item(
        self, request: Request, item: Item, missing: list[str], grant: Grant | None
    ) -> ItemView:
        exposure = self._exposure(item.role_digest)
        target, asked = role_of_entry(self._entry(item.role_digest))
        catalogue = self._house.laws.catalogue
        role = catalogue.roles.get(item.role)
        changed = change_says(
            item.role_digest, catalogue.entry_digest(item.role) if role is not None else None
        )
        return ItemView(
            role=item.role,
            title=role.title if role is not None and not changed else "",
            role_digest=item.role_digest,
            kind=asked.kind,
            connector=target.connector,
            account=target.account,
            native=dict(asked.native),
            allows=list(asked.allows),
            changed=changed,
            carrier=item.carrier,
            requirement=item.requirement,
            rules=list(item.rules),
            grace_seconds=whole_seconds(item.grace),
            ends_by=_wire(ends_by(request, item, grant)),
            ends=ends_says(request, item, grant, self._now),
            missing=missing,
            exposure_seconds=_attended(exposure),
            unattended_seconds=_unattended(exposure),
            exposure=exposure_says(exposure),
        )

    def _vote(self, vote: Vote) -> VoteView:
        return VoteView(
            id=vote.id,
            voter=self.person(vote.voter),
            choice=vote.choice,
            digest=vote.digest,
            groups=list(vote.groups),
            comment=self._house.store.text(vote.comment) if vote.comment else None,
            at=wire(vote.at),
        )

    def _missing(self, request: Request) -> dict[str, list[str]]:
        """Per role what is missing, as voters are known now; nothing once it is decided."""
        if request.state is not RequestState.PENDING:
            return {}
        voters = approvers(self._house, (vote.voter for vote in request.votes))
        needs = still_missing(request, voters)
        return {role: [need.text for need in lacking] for role, lacking in needs.items()}

    def _grants_of(self, request: Request) -> list[Grant]:
        if request.state is not RequestState.APPROVED or request.terms.extends:
            return []
        return sorted(self._house.store.grants(request=request.id), key=lambda grant: grant.id)

    def _entry(self, role_digest: str) -> dict[str, Any]:
        if role_digest not in self._entries:
            self._entries[role_digest] = entry_of(self._house, role_digest)
        return self._entries[role_digest]

    def _exposure(self, role_digest: str) -> Exposure | None:
        """Of the entry that was asked for, not of today's catalogue."""
        if role_digest not in self._exposures:
            target, role = role_of_entry(self._entry(role_digest))
            try:
                found = self._house.connector(target.connector).exposure(target, role)
                self._exposures[role_digest] = found
            except AskedWrongly:  # no such connector any more, or it lost that kind
                self._exposures[role_digest] = None
        return self._exposures[role_digest]


def _role(house: House, target: Target, role: Role) -> RoleView:
    try:
        connector = house.connector(target.connector)
        powers, exposure = connector.powers(role.kind), connector.exposure(target, role)
    except TidegateError as fault:
        return RoleView(
            id=role.id,
            title=role.title,
            kind=role.kind,
            exposure_seconds=None,
            unattended_seconds=None,
            exposure=exposure_says(None),
            native_deadline=None,
            floor_seconds=None,
            proof=None,
            trouble=fault.message,
        )
    return RoleView(
        id=role.id,
        title=role.title,
        kind=role.kind,
        exposure_seconds=whole_seconds(exposure.attended),
        unattended_seconds=_seconds(exposure.unattended),
        exposure=exposure_says(exposure),
        native_deadline=powers.native_deadline,
        floor_seconds=whole_seconds(powers.floor),
        proof=powers.proof.value,
        trouble=None,
    )


def open_view(found: OpenFindings, target: str = "") -> OpenFindingsView:
    """What is open of the findings, counted, with the oldest few; `target`: of that one only."""
    return OpenFindingsView(
        open=found.count,
        high=found.high,
        by_kind={kind.value: count for kind, count in found.by_kind.items()},
        oldest=[
            OldView(
                id=one.id,
                kind=one.kind.value,
                severity=one.severity.value,
                state=one.state.value,
                target=one.target,
                first_seen_at=wire(one.first_seen_at),
                says=one.says,
            )
            for one in found.oldest
        ],
        says=open_says({kind.value: n for kind, n in found.by_kind.items()}, found.high),
        next=open_next(target) if found.count else "",
    )


def _wire(instant: Instant | None) -> str | None:
    return wire(instant) if instant is not None else None


def _seconds(span: timedelta | None) -> int | None:
    return whole_seconds(span) if span is not None else None


def _attended(exposure: Exposure | None) -> int | None:
    return whole_seconds(exposure.attended) if exposure is not None else None


def _unattended(exposure: Exposure | None) -> int | None:
    return _seconds(exposure.unattended) if exposure is not None else None
