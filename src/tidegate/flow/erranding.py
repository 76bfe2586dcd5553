"""Errands: a process without an identity on a cloud asks one that has it, through the database.

The asker makes a key pair for each; the answer, also a mere look, is sealed to it and bound to the
errand, so no material ever lies in the database in the clear. Both are marked with a key that the
processes share and the database does not hold: who can only write there can neither ask nor answer.
It fails closed: without an answer in time there is a clear error, and what comes later is dropped,
never handed out.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import structlog

from tidegate.base.duty import Duty
from tidegate.base.errors import (
    AskedWrongly,
    NotAllowed,
    Refused,
    Stale,
    TidegateError,
    Unknown,
    Unreachable,
    WorldFailed,
)
from tidegate.base.ids import ERRAND
from tidegate.base.sealed_box import (
    SECRET_BYTES,
    mark,
    open_box,
    public_of,
    same_mark,
    seal_box,
)
from tidegate.base.when import wire
from tidegate.connectors.divided import LOOKS, perform
from tidegate.connectors.port import Credential
from tidegate.flow.deadlines import arm_again
from tidegate.flow.house import House
from tidegate.flow.minting import mint
from tidegate.store.errands import Errand

log = structlog.get_logger("tidegate.erranding")

PATIENCE = timedelta(seconds=20)  # longer than one cloud call's time-outs; a person waits for it
STEP = timedelta(milliseconds=250)  # the longest nap of who waits: news may be lost
ISSUE, LOOK, ARM = "issue", "look", "arm"
# An error travels as its class and words; whatever else went wrong is told as nobody knows what.
_FAMILIES: dict[str, type[TidegateError]] = {
    kind.__name__: kind
    for kind in (AskedWrongly, NotAllowed, Refused, Stale, Unknown, Unreachable, WorldFailed)
}


class Errands:
    """The asking side. `house` is set once it is there; before that nothing can be asked."""

    def __init__(self) -> None:
        self.house: House | None = None

    def only_one(self, key: str) -> AbstractContextManager[bool]:
        """One hand a key among all processes (`connectors.one_writer.Between`)."""
        return self.house.store.only_one(key) if self.house else nullcontext(True)

    def look(self, duty: Duty, connector: str, verb: str, asked: dict[str, Any]) -> Any:
        """A look by another process (`connectors.divided.Ask`).

        Raises:
            Unreachable: nobody answered in time. What the look raised over there.
        """
        if self.house is None:
            raise RuntimeError("a look was asked before there was a house")
        plain = {"connector": connector, "verb": verb, "asked": asked}
        return send(self.house, LOOK, duty, plain)


def send(house: House, kind: str, duty: Duty, asked: dict[str, Any]) -> Any:
    """Ask, wait, and take the answer away with us.

    Raises:
        Unreachable: `no_worker`: nobody with that duty answered in time, or too many wait.
        TidegateError: what it raised over there.
    """
    now = house.store.now()  # the one clock that asker and worker share
    secret = house.randomness(SECRET_BYTES)
    errand = Errand(
        id=house.new_id(ERRAND, now),
        kind=kind,
        duty=duty,
        asked_by=house.me,
        asked=msgspec.json.encode(asked).decode(),
        reader=public_of(secret).hex(),
        until=now + PATIENCE,
    )
    errand = replace(errand, proof=_mark(house, "ask", errand).hex())
    if not house.store.ask(errand):
        raise _nobody(duty, "too many errands wait already")
    try:
        reply = _await(house, errand)
    finally:
        house.store.drop_errand(errand.id, house.store.now())
    if reply is None:
        raise _nobody(duty, f"none answered within {PATIENCE.total_seconds():g}s")
    return _opened(open_box(bytes.fromhex(reply), secret, _mark(house, "answer", errand)))


def _await(house: House, errand: Errand) -> str | None:
    while house.store.now() < errand.until:
        reply = house.store.reply_to(errand.id)
        if reply is not None:
            return reply if house.store.now() < errand.until else None
        house.store.wait_for_news(STEP)
    return None


def answer(house: House, errand: Errand) -> None:
    """Do what was asked and leave the answer, unless it is too late for it."""
    if not _asked_by_us(house, errand):
        return
    reply: dict[str, Any]
    try:
        reply = {"ok": _done(house, errand, msgspec.json.decode(errand.asked))}
    except TidegateError as fault:
        reply = {
            "family": next(n for n, kind in _FAMILIES.items() if isinstance(fault, kind)),
            "code": fault.code,
            "message": fault.message,
            "help": fault.help,
        }
    except Exception:  # the rim of another process: it is told that something broke, not what
        log.exception("an errand could not be done", kind=errand.kind)
        reply = {
            "family": "Unknown",
            "code": "errand_broken",
            "message": "a worker could not do what was asked",
            "help": "look at the worker's log; it may run another release",
        }
    box = seal_box(
        msgspec.json.encode(reply),
        bytes.fromhex(errand.reader),
        _mark(house, "answer", errand),
        house.randomness(SECRET_BYTES),
    )
    if not house.store.answer(errand.id, box.hex(), house.store.now()):
        log.warning("an errand was done too late; its answer is dropped", kind=errand.kind)


def _done(house: House, errand: Errand, asked: dict[str, Any]) -> Any:
    if errand.duty not in house.duties:
        raise Refused("not_our_duty", f"expected a process that may {errand.duty}", "ask another")
    if errand.kind == LOOK and LOOKS.get(str(asked["verb"])) is errand.duty:
        connector = house.connector(str(asked["connector"]))
        return perform(connector, str(asked["verb"]), asked["asked"])
    if errand.kind == ISSUE and errand.duty is Duty.OPEN:
        session, credential = mint(
            house, str(asked["grant"]), str(asked["principal"]), errand.until
        )
        return {"session": session, "credential": msgspec.to_builtins(credential)}
    if errand.kind == ARM and errand.duty is Duty.OPEN:
        return dict(arm_again(house, str(asked["assignment"])))
    raise Refused(
        "unknown_errand",
        f"expected `issue`, `arm` or a look, got `{errand.kind[:40]}`",
        "use one release",
    )


def target_of(house: House, errand: Errand) -> str:
    """On which target it is to be done, for its share of the hands; one empty name for all others.

    What it says is not believed for anything else: nobody has looked yet whether a process of ours
    asked it.
    """
    try:
        asked = msgspec.json.decode(errand.asked)
        if errand.kind == ISSUE:
            return house.store.grant(str(asked["grant"])).role.partition("/")[0]
        if errand.kind == ARM:
            row = house.store.assignment(str(asked["assignment"]))
            holder = row.holders[-1] if row and row.holders else ""
            return house.store.grant(holder).role.partition("/")[0]
        within = asked["asked"]
        return str((within.get("scope") or within.get("hold") or within)["target"]["id"])
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError, TidegateError):
        return ""  # a row of it that cannot be read keeps no other errand waiting


def ask_to_mint(house: House, grant: str, principal: str) -> tuple[str, Credential]:
    """`brokering.mint` by a process that may open: session id and credential.

    Raises as `mint`, and Unreachable: nobody answered; nothing was handed out.
    """
    found = send(house, ISSUE, Duty.OPEN, {"grant": grant, "principal": principal})
    return str(found["session"]), msgspec.convert(found["credential"], Credential)


def ask_to_arm(house: House, assignment: str) -> dict[str, str]:
    """`deadlines.arm_again` by a process that may open, as it finds the grants itself.

    Raises as `arm_again`, and Unreachable: nobody answered; what the cloud has is as it was.
    """
    found = send(house, ARM, Duty.OPEN, {"assignment": assignment})
    return msgspec.convert(found, dict[str, str])


def _asked_by_us(house: House, errand: Errand) -> bool:
    """Whether a process of ours asked this, and for the first time. Others are not answered.

    What nobody of ours asked is deleted and told once a minute, with how many there were. What is
    asked again (a row that was copied and put back) is refused by every process and after every
    restart: the mark is durable before anything is done.

    Raises:
        EvidenceClosed: the mark cannot be written; nothing is done.
    """
    now = house.store.now()
    try:
        ours = same_mark(bytes.fromhex(errand.proof), _mark(house, "ask", errand))
    except ValueError:
        ours = False
    if not ours:
        house.store.drop_errand(errand.id, now)
        if count := house.errands_done.forged(now):
            help = "somebody writes to the database, or the log's key was changed: restart all"
            log.error("errands no process of ours asked are dropped", count=count, help=help)
        return False
    first = house.errands_done.first(errand.id, errand.until, now)
    if not first or not house.store.use_errand(errand.id, errand.until, now):
        log.error("an errand was asked a second time and is left undone", errand=errand.id[:40])
        return False
    return True


def _mark(house: House, purpose: str, errand: Errand) -> bytes:
    """What only a process of ours can say of this errand: that it asks it, or answers it."""
    return mark(
        house.errand_key,
        f"tidegate.errand.{purpose}.v1",
        errand.id,
        errand.kind,
        errand.duty.value,
        errand.asked_by,
        errand.asked,
        errand.reader,
        wire(errand.until),
    )


def _opened(plain: bytes) -> Any:
    reply = msgspec.json.decode(plain)
    if "ok" in reply:
        return reply["ok"]
    kind = _FAMILIES.get(str(reply["family"]), WorldFailed)
    raise kind(str(reply["code"]), str(reply["message"]), str(reply["help"]))


def _nobody(duty: Duty, why: str) -> Unreachable:
    what = "opens" if duty is Duty.OPEN else "closes"
    return Unreachable(
        "no_worker",
        f"expected a worker that {what} to answer, {why}",
        f"see whether one runs: `tidegate doctor`, `tidegate worker --{duty}`",
    )
