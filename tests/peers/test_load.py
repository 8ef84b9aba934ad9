"""A load run whose calls go by way of Kamailio: registered phones, challenges, a route."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from loadlistener import Heard
from peers.kamailio import Kamailio
from sipherd import Herd
from sipherd.load.pairing import pairs_of
from sipherd.load.profile import Arrival, Entry, HoldTime, LoadProfile
from sipherd.load.runner import Runner

MIX = (
    Entry(after=0.05),
    Entry(kind="callee_hangs_up"),
    Entry(kind="hold_retrieve"),
    Entry(kind="dtmf", digits="1"),
    Entry(kind="transfer", to="dave"),
    Entry(kind="busy"),
    Entry(kind="no_answer", after=0.5),
    Entry(kind="cancel", after=0.1),
)


@pytest.mark.slow
def test_a_run_of_all_kinds_by_way_of_a_proxy(
    start_kamailio: Callable[..., Kamailio], runtime_dir: Path
) -> None:
    kamailio = start_kamailio()
    numbers = {"alice": "1001", "bob": "1002", "carol": "1003", "dave": "1004"}
    phones = [
        {
            "name": name,
            "number": number,
            "media": "none",
            "dtmf": "info",
            "register": {"server": kamailio.hostport, "password": kamailio.password(number)},
        }
        for name, number in numbers.items()
    ]
    wanted = LoadProfile(
        callers=("alice", "bob"),
        callees=("carol",),
        arrival=Arrival(rate=16.0),
        duration=2.0,
        hold=HoldTime(mean=0.6),
        mix=MIX,
        drain=20.0,
    )
    heard = Heard()
    with Herd(phones) as herd:
        for phone in herd:
            phone.wait_registered(15)
        infos = herd.phones()
        run = Runner(herd.name, runtime_dir, wanted, pairs_of(wanted, infos), infos, heard)
        assert run.run().state == "finished"
        assert herd.calls() == []
    assert [(a.drawn, a.outcome, a.cause) for a in heard.attempts if a.outcome != a.expected] == []
    assert Counter(a.drawn for a in heard.attempts) == {entry.name: 4 for entry in MIX}
    # A challenge and its retry are one attempt; later ones have credentials from the start.
    assert any(407 in [code for code, _ in attempt.responses] for attempt in heard.attempts)
    assert {attempt.callee_incarnation for attempt in heard.attempts} == {1}
