"""Routes: tracing, verifying, health, packs, and the log's public face."""

import re
from typing import Annotated, Any

from litestar import Response
from litestar.enums import MediaType
from litestar.params import JSONBody, QueryParameter

from tidegate.base.canonical import SAFE_INTEGER
from tidegate.base.when import wire
from tidegate.flow.allowing import Verb, allow_house
from tidegate.flow.reading import find_request
from tidegate.flow.trying import Phase, Tried, tell_trial
from tidegate.shell.api.bodies import LONGEST_ID, Tell
from tidegate.shell.api.given import (
    SomeId,
    TheActor,
    TheHouse,
    TheInsight,
    answers,
)
from tidegate.shell.api.views import TrialView

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)


@answers("GET", "/api/trace/{some_id:str}")
def read_trace(
    some_id: SomeId, house: TheHouse, actor: TheActor, insight: TheInsight
) -> dict[str, Any]:
    """The five stages of a request or grant, and the stage at which its evidence stops."""
    find_request(house, actor, some_id)
    return dict(insight.trace(actor, some_id))


@answers("POST", "/api/verify/{some_id:str}")
def verify_grant(
    some_id: SomeId, house: TheHouse, actor: TheActor, insight: TheInsight
) -> dict[str, Any]:
    """A look into the cloud now, held against what is sealed of the grant."""
    find_request(house, actor, some_id)
    return dict(insight.verify(actor, some_id))


@answers("POST", "/api/grants/{some_id:str}/trials", 201)
def tell_of_trial(
    some_id: SomeId, house: TheHouse, actor: TheActor, data: JSONBody[Tell]
) -> TrialView:
    """Seal what the holder saw, trying the access on a machine and with keys of their own."""
    return _trial(tell_trial(house, actor, some_id, data.trial()))


@answers("GET", "/api/paths")
def read_paths(
    actor: TheActor,
    insight: TheInsight,
    person: Annotated[str, QueryParameter(min_length=1, max_length=LONGEST_ID)],
    target: Annotated[str, QueryParameter(min_length=1, max_length=LONGEST_ID)],
) -> dict[str, Any]:
    """Every way a person has to a target now. Of oneself, or for auditors and target owners."""
    return dict(insight.paths(actor, person, target))


@answers("GET", "/api/doctor")
def read_doctor(house: TheHouse, actor: TheActor, insight: TheInsight) -> dict[str, Any]:
    """The health of this installation. For operators and auditors."""
    allow_house(house, actor, Verb.AUDIT)
    return dict(insight.doctor(actor))


@answers("GET", "/api/evidence/pack/{some_id:str}")
def read_pack(
    some_id: SomeId, house: TheHouse, actor: TheActor, insight: TheInsight
) -> Response[bytes]:
    """The evidence pack of a grant: a zip that is verified without this server."""
    find_request(house, actor, some_id)
    name, data = insight.pack(actor, some_id)
    safe = _UNSAFE.sub("_", name)
    return Response(
        data,
        media_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{safe}"'},
    )


@answers("GET", "/api/evidence/checkpoint", media_type=MediaType.TEXT)
def read_checkpoint(insight: TheInsight) -> str:
    """The newest signed checkpoint (C2SP tlog-checkpoint)."""
    return insight.checkpoint()


@answers("GET", "/api/evidence/keys", media_type=MediaType.TEXT)
def read_keys(insight: TheInsight) -> str:
    """The log's public keys, one a line. Compare them with a copy that came another way."""
    return insight.keys()


@answers("GET", "/api/evidence/consistency")
def read_consistency(
    insight: TheInsight, old: Annotated[int, QueryParameter(ge=0, le=SAFE_INTEGER)]
) -> dict[str, Any]:
    """The proof that the log now extends the log of size `old` (RFC 6962, section 2.1.2)."""
    return dict(insight.consistency(old))


def _trial(tried: Tried) -> TrialView:
    should = {
        Phase.BEFORE: "before it is open it should be denied",
        Phase.DURING: "while it is open it should be allowed",
        Phase.AFTER: "after its end it should be denied",
    }[tried.phase]
    clock = "" if tried.own_clock else "; your clock could not be believed, so ours is sealed"
    return TrialView(
        grant=tried.grant.id,
        request=tried.grant.request,
        phase=tried.phase.value,
        outcome=tried.outcome.value,
        expected=tried.expected.value,
        as_it_should=tried.as_it_should,
        tried_at=wire(tried.tried_at),
        own_clock=tried.own_clock,
        residual_until=wire(tried.grant.residual_until) if tried.grant.residual_until else None,
        says=f"tried {tried.phase}: {tried.outcome}; {should}{clock}",
    )


ROUTES = (
    read_trace,
    verify_grant,
    tell_of_trial,
    read_paths,
    read_doctor,
    read_pack,
    read_checkpoint,
    read_keys,
    read_consistency,
)
