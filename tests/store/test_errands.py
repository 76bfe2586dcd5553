"""Errands and signs of life: given to one process, answered once, gone afterwards."""

from datetime import timedelta

from tidegate.base.duty import ALL, Duty
from tidegate.store import errands
from tidegate.store.errands import Errand

from .making import NOW

SECOND = timedelta(seconds=1)


def errand(number: int, duty: Duty = Duty.OPEN) -> Errand:
    """One that runs out in ten seconds."""
    return Errand(
        id=f"er_{number}",
        kind="issue",
        duty=duty,
        asked_by="api",
        asked="{}",
        reader="00" * 32,
        until=NOW + 10 * SECOND,
    )


def test_errand_is_given_to_two_or_to_the_wrong_duty(store):
    """Who has its duty gets it, once; who has not gets nothing."""
    assert store.ask(errand(1)) and store.ask(errand(2, Duty.CLOSE))
    assert store.take_errands([Duty.CLOSE], "a", NOW, 10) == [errand(2, Duty.CLOSE)]
    assert store.take_errands(ALL, "b", NOW, 10) == [errand(1)]
    assert store.take_errands(ALL, "c", NOW, 10) == []


def test_errand_that_is_passed_over_is_lost(store):
    """What may not be taken now is left for later or for another; what may, up to the limit."""
    for number in (1, 2, 3, 4):
        store.ask(errand(number))
    odd = store.take_errands(ALL, "a", NOW, 1, lambda one: one.id in ("er_2", "er_3"))
    assert odd == [errand(2)]
    assert store.take_errands(ALL, "a", NOW, 9, lambda one: False) == []
    assert store.take_errands(ALL, "b", NOW, 9) == [errand(1), errand(3), errand(4)]
    store.ask(errand(5))
    assert store.take_errands([], "c", NOW, 9) == []
    assert store.take_errands(ALL, "c", NOW + 10 * SECOND, 9) == []


def test_answer_after_the_end_is_left(store):
    """An answer in time is there for the asker; a late one, and one to nobody, is not."""
    store.ask(errand(1))
    assert not store.answer("er_1", "early", NOW)  # nobody took it
    store.take_errands(ALL, "a", NOW, 10)
    assert not store.answer("er_1", "late", NOW + 10 * SECOND)
    assert store.reply_to("er_1") is None
    assert store.answer("er_1", "there", NOW + 9 * SECOND)
    assert store.reply_to("er_1") == "there"
    store.drop_errand("er_1", NOW)
    assert store.reply_to("er_1") is None and not store.answer("er_1", "again", NOW)


def test_asking_wakes_nobody(store):
    """Who waits for news hears of an errand and of its answer."""
    store.wait_for_news(timedelta(0))
    store.ask(errand(1))
    assert store.wait_for_news(5 * SECOND)
    store.take_errands(ALL, "a", NOW, 10)
    store.answer("er_1", "there", NOW)
    assert store.wait_for_news(5 * SECOND)


def test_beats_of_the_dead_are_kept_for_ever(store):
    """Old beats of workers go; those of others, and of the living, stay."""
    for name in ("worker", "worker:a", "workers", "witness url"):
        store.beat(name, NOW, "")
    store.beat("worker:b", NOW + 2 * SECOND, "")
    store.forget_beats("worker", NOW + SECOND)
    assert sorted(store.beats()) == ["witness url", "worker:b", "workers"]


def test_errand_is_used_twice(store):
    """An errand is used once, also when its row is gone; the mark goes long after its end."""
    over = NOW + 10 * SECOND
    assert store.use_errand("er_1", over, NOW)
    store.drop_errand("er_1", NOW)
    assert not store.use_errand("er_1", over, NOW)
    assert store.use_errand("er_2", over, over + errands.USED_KEPT)
    assert not store.use_errand("er_1", over, over + errands.USED_KEPT)
    assert store.use_errand("er_1", over, over + errands.USED_KEPT + SECOND)
