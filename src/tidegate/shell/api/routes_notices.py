"""Routes: what people are to be told. Made here, delivered by whoever reads it."""

from litestar.params import FromQuery

from tidegate.base.when import wire
from tidegate.flow.allowing import Verb, allow_house
from tidegate.shell.api.given import Cursor, Limit, TheActor, TheHouse, answers
from tidegate.shell.api.listing import PAGE, View
from tidegate.shell.api.views import NoticesView, NoticeView


@answers("GET", "/api/notices")
def list_of_notices(
    house: TheHouse,
    actor: TheActor,
    view: FromQuery[View] = View.MINE,
    limit: Limit = PAGE,
    before: Cursor = None,
) -> NoticesView:
    """Newest first: those for oneself; for auditors, `waiting` (not delivered yet) or `all`."""
    if view is not View.MINE:
        allow_house(house, actor, Verb.AUDIT)
    found = house.store.notices(
        audience=actor.id if view is View.MINE else None,
        waiting=view is View.WAITING,
        limit=limit,
        before=before,
    )
    told = [
        NoticeView(
            id=notice.id,
            kind=notice.kind,
            subject=notice.subject,
            audience=notice.audience,
            made_at=wire(notice.made_at),
            payload=dict(notice.payload),
            delivered_at=wire(delivered) if delivered else None,
        )
        for notice, delivered in found
    ]
    return NoticesView(notices=told, next_before=told[-1].id if len(told) == limit else None)


ROUTES = (list_of_notices,)
