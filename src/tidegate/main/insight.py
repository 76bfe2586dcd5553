"""What the API shows of health and evidence, wired from `diagnose/` and `flow/proving`."""


from tidegate.base.canonical import Json
from tidegate.base.errors import AskedWrongly
from tidegate.diagnose.trace import Trace, gather, trace
from tidegate.evidence.seal import read_event
from tidegate.flow.allowing import Verb, allow_house
from tidegate.flow.granting import hold_of
from tidegate.flow.house import Actor
from tidegate.flow.people import shown_name
from tidegate.flow.proving import pack
from tidegate.flow.reading import find_grant, find_request
from tidegate.main.wiring import Running, read_signer
from tidegate.shell.api.insight import Insight


def make_insight(running: Running) -> Insight:
    """The callables behind the evidence and health routes."""
    house = running.house
    key = read_signer(running.config).verifier()

    def show_trace(actor: Actor, some_id: str) -> dict[str, Json]:
        return trace_of(running, actor, some_id).as_json()

    def show_verify(actor: Actor, some_id: str) -> dict[str, Json]:
        return verify_now(running, actor, some_id).as_json()

    def show_doctor(actor: Actor) -> dict[str, Json]:
        allow_house(house, actor, Verb.AUDIT)
        return look(running).as_json()

    def consistency(old: int) -> dict[str, Json]:
        head = house.store.head()
        if not 0 <= old <= head.size:
            raise AskedWrongly(
                "bad_size",
                f"expected a size from 0 to {head.size}, got {old}",
                "a larger remembered size means the log was rolled back",
            )
        return {
            "old": old,
            "size": head.size,
            "hashes": [part.hex() for part in house.store.consistency(old)],
            "checkpoint": head.checkpoint_text,
        }

    return Insight(
        trace=show_trace,
        verify=show_verify,
        doctor=show_doctor,
        pack=lambda actor, some_id: pack(house, key, actor, some_id),
        checkpoint=lambda: house.store.head().checkpoint_text,
        keys=lambda: key.text() + "\n",
        consistency=consistency,
    )


def trace_of(running: Running, actor: Actor, some_id: str) -> Trace:
    """The walk of a request the actor may see."""
    house = running.house
    found = find_request(house, actor, some_id)
    events, request, grants = gather(house.store, found.id)
    return trace(
        events,
        request,
        grants,
        now=house.now(),
        names=lambda principal: shown_name(house, principal),
        texts=house.store.text,
        beats=house.store.beats(),
    )
