"""A run's numbers for Prometheus, while it goes on.

Counters only grow, so that `rate()` works on them; what a gate judges is computed from the records,
not from these.
"""

from __future__ import annotations

import re
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from ..protocol.nodes import quote
from . import delays
from .records import BoxSample, CallAttempt, RunEvent, as_intended

__all__ = ["Endpoint", "RunMetrics", "split_address"]

#: Bounds in seconds; those of SIPp's response times are among them.
_SETUP = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LATE = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):)?(?P<port>[0-9]{1,5})")


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `[HOST:]PORT`; without a host only this machine can ask.

    Raises:
        ValueError: it has another form.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{quote(text)}: expected a port, or HOST:PORT")
    return (match["host"] or "127.0.0.1").strip("[]"), int(match["port"])


class RunMetrics:
    """The metrics of one run, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._started = Counter("sipherd_calls_started", "INVITEs sent.", registry=registry)
        self._ended = Counter(
            "sipherd_calls_ended",
            "Attempts that are over, by the outcome they were to have and the one they had.",
            ("expected", "outcome"),
            registry=registry,
        )
        self._missed = Counter(
            "sipherd_calls_not_intended",
            "Attempts that did not end as the profile drew for them.",
            registry=registry,
        )
        self._codes = Counter(
            "sipherd_responses", "Responses to INVITE by code.", ("code",), registry=registry
        )
        self._again = Counter("sipherd_retransmissions", "Requests sent again.", registry=registry)
        self._setup = Histogram(
            "sipherd_request_delay_seconds",
            "Session request delay of successful attempts (RFC 6076 section 4.3.1).",
            buckets=_SETUP,
            registry=registry,
        )
        self._late = Histogram(
            "sipherd_start_late_seconds",
            "By how much calls started after their intended time.",
            buckets=_LATE,
            registry=registry,
        )
        self._up = Gauge(
            "sipherd_calls_under_way", "Calls from INVITE to their end.", registry=registry
        )
        self._answered = Gauge(
            "sipherd_calls_answered", "Calls that are answered and up.", registry=registry
        )
        self._rate = Gauge(
            "sipherd_intended_rate", "Calls per second that the profile wants.", registry=registry
        )
        self._deaths = Counter(
            "sipherd_phone_deaths", "Processes of phones that died.", registry=registry
        )
        self._cpu = Gauge("sipherd_cpu_ratio", "Share of all cores busy.", registry=registry)
        self._lag = Gauge(
            "sipherd_loop_lag_seconds",
            "How late a loop woke up at worst, in the last sample.",
            ("loop",),
            registry=registry,
        )
        self._drops = Counter(
            "sipherd_socket_drops",
            "Datagrams that the kernel threw away for want of buffer.",
            registry=registry,
        )

    def started(self) -> None:
        """An INVITE was sent."""
        self._started.inc()
        self._up.inc()

    def answered(self) -> None:
        """A call was answered."""
        self._answered.inc()

    def ended(self, attempt: CallAttempt) -> None:
        """An attempt is over; `started` and `answered` were called for it if it got so far."""
        if attempt.started is not None:
            self._up.dec()
            self._late.observe(attempt.late or 0.0)
            if attempt.answered is not None:
                self._answered.dec()
        self._ended.labels(attempt.expected, attempt.outcome).inc()
        if not as_intended(attempt):
            self._missed.inc()
        for code, _ in attempt.responses:
            self._codes.labels(code).inc()
        self._again.inc(attempt.retransmissions)
        delay = delays.request(attempt)
        if delay is not None and delay.successful:
            self._setup.observe(delay.seconds)

    def event(self, event: RunEvent) -> None:
        """Something happened to the herd."""
        if event.kind == "phone_died":
            self._deaths.inc()

    def sample(self, sample: BoxSample) -> None:
        """How the box was doing."""
        self._cpu.set(sample.cpu)
        self._drops.inc(sample.socket_drops)
        self._lag.labels("runner").set(sample.loop_lag)
        self._lag.labels("supervisor").set(sample.supervisor_lag)
        self._lag.labels("phones").set(sample.phone_lag)

    def rate(self, intended: float) -> None:
        """What the profile wants now."""
        self._rate.set(intended)


class Endpoint:
    """Serves the metrics by HTTP, in a thread of its own.

    Raises:
        OSError: the address can't be used.
    """

    def __init__(self, metrics: RunMetrics, host: str, port: int) -> None:
        self._server: WSGIServer
        self._server, self._thread = start_http_server(port, host, metrics.registry)
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Serve nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
