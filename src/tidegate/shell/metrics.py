"""`/metrics`: figures for a monitoring system, in OpenMetrics. Only this file knows Prometheus.

Latencies are not clocked here: they are read from the log as it grows, so every process shows the
same truth and none is lost with the process that closed. Labels are words of ours, each one of few:
no person, grant or target is ever among them.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tidegate.base.errors import EvidenceBroken, TidegateError
from tidegate.evidence.events import Event
from tidegate.evidence.lateness import Latency, Lateness, measure
from tidegate.evidence.seal import read_event
from tidegate.flow.house import House

# Milliseconds, for a role with a native deadline, to a day, for an end that a person must finish.
BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 14_400, 86_400)
MOST_FOLLOWED = 20_000  # events read for one answer: a second or two; the rest for the next one
LABELS = ("latency", "ended", "kind", "connector")
AT = {  # which latencies an event makes known
    "grant.removed": (Latency.SENT, Latency.REMOVED),
    "grant.gone": (Latency.GONE, Latency.DENIES, Latency.DECLARED),
}


class Metrics:
    """The figures of one process. Thread-safe: one answer is made at a time."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._alone = threading.Lock()
        self._next: int | None = None  # the first event not read yet; None before the first answer
        self._kinds: dict[str, str] = {}
        self._registry = CollectorRegistry()
        self._late = Histogram(
            "tidegate_end_lateness_seconds",
            "From the end to each latency (docs/lateness.md), from the log, since this start",
            LABELS,
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._events = Counter(
            "tidegate_sealed_events",
            "Events sealed by all processes since this start, by name",
            ("name",),
            registry=self._registry,
        )
        self._late_credentials = Counter(
            "tidegate_credentials_after_end",
            "Credentials issued after an end, or good beyond it: always 0",
            registry=self._registry,
        )
        self._unsettled = Counter(
            "tidegate_calls_unsettled",
            "Calls to a cloud that settled nothing, of this process",
            ("step", "outcome"),
            registry=self._registry,
        )
        self._registry.register(_Now(house, self._left))

    def render(self, accept: str) -> tuple[bytes, str]:
        """Everything, and its media type by the caller's `Accept`."""
        with self._alone:
            with suppress(TidegateError):  # the database: a gauge below says so
                self._follow()
            for (step, outcome), more in self._house.tries.settle_counts().items():
                self._unsettled.labels(step, outcome).inc(more)
            encode, media_type = choose_encoder(accept)
            return encode(self._registry), media_type

    def _left(self) -> int:
        """How many events are sealed and not read here yet."""
        return max(0, self._house.store.head().size - (self._next or 0))

    def _follow(self) -> None:
        """Read what was sealed since the last answer."""
        if self._next is None:
            self._next = self._house.store.head().size
            return
        walk = self._house.store.all_events(self._next)
        for count, (idx, leaf) in enumerate(walk, 1):
            self._next = idx + 1
            try:
                self._take(read_event(leaf))
            except (EvidenceBroken, KeyError, ValueError):
                continue  # `evidence verify` is what finds it
            if count >= MOST_FOLLOWED:
                return

    def _take(self, event: Event) -> None:
        self._events.labels(event.name).inc()
        if event.name not in AT:
            return
        grant = str(event.data["grant"])
        chain = [read_event(leaf) for _, leaf in self._house.store.events(event.subject)]
        one = measure([other for other in chain if other.idx <= event.idx], grant)
        if one is None:
            return
        for latency in AT[event.name]:
            if latency in one.spans:
                labels = (latency.value, one.ended, self._kind(one), one.connector)
                self._late.labels(*labels).observe(one.spans[latency] / 1000)
        if event.name == "grant.gone" and one.violations:
            self._late_credentials.inc(one.violations)

    def _kind(self, one: Lateness) -> str:
        if one.role_digest not in self._kinds:
            data = self._house.store.document(one.role_digest)
            entry = orjson.loads(data) if data else {}
            self._kinds[one.role_digest] = str(entry.get("kind", "unknown"))
        return self._kinds[one.role_digest]


class _Now(Collector):
    """What is so at the moment of asking: queue, oldest overdue end, journal, beats."""

    def __init__(self, house: House, left: Callable[[], int]) -> None:
        self._house = house
        self._left = left

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("tidegate_database_up", "Whether the database could be read")
        try:
            found = list(self._of_store())
            up.add_metric([], 1)
        except TidegateError:
            found = []
            up.add_metric([], 0)
        yield up
        yield from found
        size = GaugeMetricFamily("tidegate_journal_bytes", "Size of the closing journal")
        size.add_metric([], self._house.journal.size())
        yield size

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance: registering must not read the database."""
        yield from ()

    def _of_store(self) -> Iterator[Metric]:
        store, now = self._house.store, self._house.now()
        counts, oldest = store.live(now)
        grants = GaugeMetricFamily(
            "tidegate_grants", "Grants that are not over, by state", labels=("state",)
        )
        for state in ("ready", "intended", "open", "closing", "removed"):
            grants.add_metric([state], counts.get(state, 0))
        yield grants
        late = (now - oldest).total_seconds() if oldest else 0.0
        yield _gauge("tidegate_oldest_overdue_seconds", "Age of the oldest end not removed", late)
        head = store.head()
        yield _gauge("tidegate_log_size", "Events in the log", head.size)
        yield _gauge("tidegate_log_unread_events", "Sealed, not in these figures yet", self._left())
        beats = GaugeMetricFamily(
            "tidegate_beat_age_seconds", "Since a part was last heard", labels=("part",)
        )
        newest: dict[str, float] = {}
        for name, (at, _) in store.beats().items():
            part, age = name.split(" ", 1)[0], (now - at).total_seconds()
            newest[part] = min(age, newest.get(part, age))  # one of several processes is enough
        for part, age in sorted(newest.items()):
            beats.add_metric([part], age)
        yield beats
        forked = self._house.forked(now) is not None
        yield _gauge("tidegate_log_forked", "1: the log does not extend what was witnessed", forked)
        waiting = self._house.wanted.all()
        frozen = store.stopping_count(now)
        yield _gauge(
            "tidegate_panics", "Panics by which something is kept shut", frozen + len(waiting)
        )


def _gauge(name: str, help: str, value: float) -> Metric:
    made = GaugeMetricFamily(name, help)
    made.add_metric([], value)
    return made
