"""How requests, grants and targets read in a terminal. Texts come from `Answer`, safe to print."""

from collections.abc import Callable, Sequence

from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.printing import fields, moment, span

Paint = Callable[[str], str]  # a state in its colour, or as it is


def person(thing: Answer, name: str) -> str:
    """A principal as people know it; with its login where that says more than its name."""
    who = thing.part(name)
    login = who.text("login")
    called = who.text("name") or login or who.text("id") or thing.text(name) or "somebody"
    return f"{called} ({login})" if login and login != called else called


def seconds(thing: Answer, name: str) -> str:
    """A number of seconds as a duration; empty when it is not there."""
    found = thing.number(name)
    return "" if found is None else span(found)


def request_row(request: Answer) -> tuple[str, ...]:
    """The cells of a request in a list."""
    return (
        request.text("id"),
        request.text("state"),
        person(request, "principal"),
        ", ".join(item.text("role") for item in request.some("items")),
        seconds(request, "duration_seconds"),
        request.text("reason"),
    )


def grant_row(grant: Answer) -> tuple[str, ...]:
    """The cells of a grant in a list."""
    return (
        grant.text("id"),
        grant.text("state"),
        grant.text("role"),
        moment(grant.text("ends_at")) or "-",
        seconds(grant, "remaining_seconds") or "-",
        grant.text("says"),
    )


def target_rows(targets: Sequence[Answer]) -> list[tuple[str, ...]]:
    """The cells of every role of every target."""
    return [
        (
            role.text("id"),
            role.text("kind"),
            seconds(role, "exposure_seconds") or "-",
            _what(role),
        )
        for target in targets
        for role in target.some("roles")
    ]


def request_lines(request: Answer, paint: Paint) -> list[str]:
    """Everything an approver must see, the digest last: it is what a vote names."""
    head = f"{request.need('id')}  {paint(request.need('state'))}  {request.text('says')}"
    lines = [
        head.rstrip(),
        *fields(
            [
                ("who", person(request, "principal")),
                ("extends", request.text("extends")),
                ("ends now", moment(request.text("extends_from"))),
                ("new end", moment(request.text("extends_until"))),
                ("for", seconds(request, "duration_seconds")),
                ("from", moment(request.text("start"))),
                ("reason", _reason(request)),
                ("ticket", request.text("ticket")),
                ("emergency", "yes" if request.flag("emergency") else ""),
                ("decide by", moment(request.text("decide_by"))),
                ("grants", ", ".join(request.texts("grants"))),
                ("queue", queue_says(request)),
            ]
        ),
    ]
    for item in request.some("items"):
        lines += _item_lines(item)
    for vote in request.some("votes"):
        said = f': "{vote.text("comment")}"' if vote.text("comment") else ""
        lines.append(
            f"  vote: {person(vote, 'voter')} {vote.text('choice')} {moment(vote.text('at'))}{said}"
        )
    return [*lines, *fields([("digest", request.text("digest"))])]


def grant_lines(grant: Answer, paint: Paint) -> list[str]:
    """Everything about one grant."""
    head = f"{grant.need('id')}  {paint(grant.need('state'))}  {grant.text('says')}"
    shown = (
        ("opened", "opened_at"),
        ("window ends", "window_ends_at"),
        ("ends", "ends_at"),
        ("closing", "closing_at"),
        ("removed", "removed_at"),
        ("residual", "residual_until"),
        ("gone", "gone_at"),
    )
    return [
        head.rstrip(),
        *fields(
            [
                ("role", grant.text("role")),
                ("who", person(grant, "principal")),
                ("request", grant.text("request")),
                *((name, moment(grant.text(key))) for name, key in shown),
                ("left", seconds(grant, "remaining_seconds") if _is_open(grant) else ""),
                ("end reason", grant.text("end_reason")),
                ("proof", grant.text("proof")),
                *(("side doors", said) for said in grant.texts("side_doors")),
                ("cause", grant.text("cause")),
                ("held by", grant.text("still_held_by")),
                ("sessions", grant.text("sessions")),
                ("exposure", grant.text("exposure")),
                ("queue", queue_says(grant)),
            ]
        ),
    ]


def queue_says(thing: Answer) -> str:
    """What waits before a grant; empty when nothing does, or the server says nothing of it."""
    return thing.part("queue").text("says") if thing.plain.get("queue") else ""


def preview_lines(preview: Answer, paint: Paint) -> list[str]:
    """What the rules would say of a request that was not filed."""
    allowed = preview.flag("allowed")
    verdict = paint("approved") if allowed else paint("refused")
    said = "it could be asked for" if allowed else "it would be refused"
    lines = [said if allowed else f"{verdict}: {said}: {preview.text('why')}"]
    for item in preview.parts("items"):
        lines += _item_lines(item)
        if not item.flag("allowed"):
            lines += fields([("  why", item.text("why"))])
        lines += fields([("  longest", seconds(item, "max_seconds"))])
    return [*lines, "nothing was filed"]


def _item_lines(item: Answer) -> list[str]:
    missing = item.texts("missing")
    title = item.text("title")
    allows = ", ".join(item.texts("allows"))
    return [
        f"  role {item.text('role')}" + (f" ({title})" if title else ""),
        *fields(
            [
                ("  NB", item.text("changed")),
                ("  kind", item.text("kind")),
                (
                    "  cloud account",
                    " ".join([item.text("connector"), item.text("account")]).strip(),
                ),
                *((f"  {name}", value) for name, value in item.map("native").items()),
                ("  allows", f"{allows}: what these make outlives the end" if allows else ""),
                ("  carried by rule", item.text("carrier") or "none"),
                ("  must approve", item.text("requirement")),
                ("  ends", item.text("ends")),
                ("  grace", _grace(item)),
                ("  still missing", " and ".join(missing)),
                ("  exposure", item.text("exposure") or seconds(item, "exposure_seconds")),
            ]
        ),
    ]


def _grace(item: Answer) -> str:
    """How much later than its window an access really ends, where its end does not say so."""
    grace = item.number("grace_seconds")
    told = grace and not item.text("ends")
    return f"{span(grace)}: it ends that much after its window" if grace and told else ""


def _reason(request: Answer) -> str:
    """The reason; a text that was erased is told as such, not left out."""
    if "reason" in request.plain and request.plain["reason"] is None:
        return "(erased)"
    return request.text("reason")


def _what(role: Answer) -> str:
    if trouble := role.text("trouble"):
        return f"cannot be opened: {trouble}"
    return role.text("title") or role.text("exposure")


def _is_open(grant: Answer) -> bool:
    return grant.text("state") in ("intended", "open")
