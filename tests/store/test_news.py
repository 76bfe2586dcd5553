"""News and keys in hand: who is woken, and who may go on."""

import threading
from datetime import timedelta

from .making import filed, lifecycle

NOT_AT_ALL = timedelta(0)
LONG = timedelta(seconds=20)  # never waited out: only a lost wake-up gets near it


def test_commit_that_makes_something_due_wakes_who_waits(store):
    """A grant that may open wakes a waiting worker; a request nobody can act on does not."""
    store.commit(filed(1)[0])
    assert not store.wait_for_news(NOT_AT_ALL)
    heard = []
    waiting = threading.Thread(target=lambda: heard.append(store.wait_for_news(LONG)))
    waiting.start()
    lifecycle(store, 2)
    waiting.join()
    assert heard == [True]


def test_news_of_before_the_wait_is_not_lost(store):
    """What became due while a worker was busy ends its next wait at once, and only that one."""
    lifecycle(store, 1)
    assert store.wait_for_news(LONG)
    assert not store.wait_for_news(NOT_AT_ALL)


def test_key_in_hand_is_nobody_elses(store):
    """While one has a key another one is told no; other keys are free, and so is it afterwards."""
    with store.only_one("aws|1|admin") as first, store.only_one("aws|2|admin") as other:
        with store.only_one("aws|1|admin") as second:
            assert (first, other, second) == (True, True, False)
        with store.only_one("aws|1|admin") as third:
            assert not third  # who was told no gave nothing back
    with store.only_one("aws|1|admin") as again:
        assert again
