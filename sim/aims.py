"""Which small world finds which mutant: scene and number, found by trying."""

from collections.abc import Mapping

AIMED: Mapping[str, tuple[str, int]] = {
    "end-a-minute-late": ("calm", 0),
    "end-a-second-late": ("calm", 0),
    "end-counts-from-claim-by": ("calm", 0),
    "late-opening-shifts-window": ("calm-own", 0),
    "opens-before-start": ("calm-own", 0),
    "opens-too-early-unchecked": ("calm-own", 0),
    "claim-by-ignored": ("late-open", 0),
    "cloud-before-intent": ("calm", 0),
    "unknown-as-failed": ("lost-grant", 0),
    "later-refusal-as-failed": ("lost-then-no", 0),
    "stop-after-six-tries": ("revoke-down", 0),
    "stop-after-one-try": ("revoke-down", 0),
    "pause-grows-for-ever": ("revoke-down", 0),
    "accepted-as-removed": ("revoke-nothing", 0),
    "removed-as-gone": ("calm", 0),
    "residual-forgotten": ("calm", 0),
    "cut-believed": ("calm", 0),
    "removal-skipped": ("calm", 0),
}

__all__ = ["AIMED"]
