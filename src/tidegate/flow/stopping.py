"""What a panic keeps shut: asked before anything opens, is filed, or gives a credential."""

from tidegate.base.when import Instant, wire
from tidegate.flow.house import House
from tidegate.panic import Panic, PanicState


def stopped(house: House, principal: str, role: str, now: Instant) -> Panic | None:
    """The panic by which access of `principal` to `role` may not open at `now`, if there is one."""
    for wanted in house.wanted.all():  # those that could not be sealed yet count as well
        if wanted.covers(principal, role):
            return wanted.as_panic()
    return house.store.stopping(principal, role, now)


def stop_says(panic: Panic, now: Instant) -> str:
    """Why nothing opens, in one sentence without a full stop."""
    if not panic.id:
        return "the file of panics that wait to be sealed cannot be read, so nothing opens"
    since = f"everything in `{panic.scope.text}` was ended at {wire(panic.called_at)}"
    if panic.frozen_until is not None and panic.frozen(now):
        return f"{since}, and nothing opens there until {wire(panic.frozen_until)} (`{panic.id}`)"
    if panic.state is PanicState.CALLED:
        return f"{since}, and that is still under way (`{panic.id}`)"
    return since
