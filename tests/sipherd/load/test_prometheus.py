"""A run's metrics, as Prometheus reads them."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from loadrun import attempt
from sipherd.load.prometheus import Endpoint, RunMetrics, split_address
from sipherd.load.records import BoxSample, RunEvent


def value(metrics: RunMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_calls_are_counted() -> None:
    metrics = RunMetrics()
    metrics.started()
    metrics.started()
    metrics.answered()
    metrics.ended(attempt(1))
    metrics.ended(attempt(2, outcome="reject", answered=None, responses=((100, 0.1), (603, 0.2))))
    metrics.ended(attempt(3, outcome="refused", started=None, answered=None, responses=()))
    assert value(metrics, "sipherd_calls_started_total") == 2
    assert value(metrics, "sipherd_calls_under_way") == 0
    assert value(metrics, "sipherd_calls_answered") == 0
    assert value(metrics, "sipherd_calls_not_intended_total") == 2
    ended = {"expected": "answer", "outcome": "reject"}
    assert value(metrics, "sipherd_calls_ended_total", **ended) == 1
    assert value(metrics, "sipherd_responses_total", code="100") == 2
    assert value(metrics, "sipherd_responses_total", code="603") == 1
    assert value(metrics, "sipherd_request_delay_seconds_count") == 1
    assert value(metrics, "sipherd_start_late_seconds_count") == 2


def test_what_happens_to_herd_and_box() -> None:
    metrics = RunMetrics()
    metrics.event(RunEvent(t=1.0, phone="alice", kind="phone_died"))
    metrics.event(RunEvent(t=1.0, phone="alice", kind="phone_state"))
    metrics.sample(BoxSample(t=1.0, cpu=0.5, loop_lag=0.2, socket_drops=3))
    metrics.sample(BoxSample(t=2.0, cpu=0.25, loop_lag=0.1, socket_drops=1))
    metrics.rate(20.0)
    assert value(metrics, "sipherd_phone_deaths_total") == 1
    assert value(metrics, "sipherd_cpu_ratio") == 0.25
    assert value(metrics, "sipherd_loop_lag_seconds", loop="runner") == 0.1
    assert value(metrics, "sipherd_socket_drops_total") == 4
    assert value(metrics, "sipherd_intended_rate") == 20


def test_they_are_served_until_it_is_closed() -> None:
    metrics = RunMetrics()
    metrics.started()
    endpoint = Endpoint(metrics, "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics") as answer:
            assert b"sipherd_calls_started_total 1.0" in answer.read()
        with pytest.raises(OSError, match="in use"):
            Endpoint(RunMetrics(), "127.0.0.1", endpoint.port)
    finally:
        endpoint.close()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9090", ("127.0.0.1", 9090)),
        ("0.0.0.0:9090", ("0.0.0.0", 9090)),
        ("[::1]:0", ("::1", 0)),
        ("box.lab:80", ("box.lab", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


@pytest.mark.parametrize("text", ["", "box", "box:", "70000", "::1:80", "a:b", "1:2:3", "٣"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="expected a port, or HOST:PORT"):
        split_address(text)


def test_the_document_has_them_all() -> None:
    text = (Path(__file__).parents[3] / "docs" / "load.md").read_text()
    for family in RunMetrics().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"`{name}`" in text
