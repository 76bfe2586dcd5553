"""Routes: tracing, verifying, health, packs, and the log's public face."""

import re
from typing import Annotated, Any

from litestar import Response
from litestar.enums import MediaType
from litestar.params import QueryParameter

from tidegate.base.canonical import SAFE_INTEGER
from tidegate.flow.allowing import Verb, allow_house
from tidegate.flow.reading import find_request
from tidegate.shell.api.given import (
    SomeId,
    TheActor,
    TheHouse,
    TheInsight,
    answers,
)

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)


@answers("GET", "/api/trace/{some_id:str}")
def read_trace(
    some_id: SomeId, house: TheHouse, actor: TheActor, insight: TheInsight
) -> dict[str, Any]:
    """The five stages of a request or grant, and the stage at which its evidence stops."""
    find_request(house, actor, some_id)
    return dict(insight.trace(actor, some_id))


@answers("POST", "/api/verify/{some_id:str}")
def verify_evidence(
    some_id: SomeId, house: TheHouse, actor: TheActor, insight: TheInsight
) -> dict[str, Any]:
    """Whether the evidence of a request or grant holds, checked now."""
    find_request(house, actor, some_id)
    return dict(insight.verify(actor, some_id))


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


ROUTES = (
    read_trace,
    verify_evidence,
    read_doctor,
    read_pack,
    read_checkpoint,
    read_keys,
    read_consistency,
)
