"""A load run whose calls go through a relay that counts: what it saw is what is in the database."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from commandline import process
from peers.relay import Datagram, Relay
from peers.sipp import loopback_address
from sipherd.load.mix import quotas
from sipherd.load.records import CallAttempt, RunFacts
from sipherd.load.store import RunReader

PAIRS = 10
RATE = 20
PORTS = [5060 + 2 * n for n in range(PAIRS)]
MIX = [
    {"kind": "answer", "after": "200ms", "weight": 50},
    {"kind": "callee_hangs_up", "weight": 10},
    {"kind": "busy", "weight": 10},
    {"kind": "no_answer", "after": "2s", "weight": 10},
    {"kind": "cancel", "after": "500ms", "weight": 10},
    {"kind": "hold_retrieve", "weight": 5},
    {"kind": "dtmf", "digits": "12#", "weight": 5},
]

_CALL_ID = re.compile(rb"^Call-ID: *(\S+)", re.MULTILINE)
_CSEQ = re.compile(rb"^CSeq: *\d+ INVITE", re.MULTILINE)


class Counted:
    """What went by: INVITEs that set up a call, and the final codes for them."""

    def __init__(self) -> None:
        self.invites: set[str] = set()
        self.codes: dict[str, int] = {}

    def look(self, datagram: Datagram) -> bool:
        data = datagram.data
        found = _CALL_ID.search(data)
        if found is None:
            return False
        call = found[1].decode()
        if data.startswith(b"INVITE ") and datagram.to == "right":
            if b";tag=" not in self._header(data, b"To"):
                self.invites.add(call)
        elif data.startswith(b"SIP/2.0 ") and datagram.to == "left" and _CSEQ.search(data):
            code = int(data[8:11])
            if code >= 200 and call not in self.codes:
                self.codes[call] = code  # what follows belongs to re-INVITEs
        return False

    @staticmethod
    def _header(data: bytes, name: bytes) -> bytes:
        found = re.search(rb"^" + name + rb": *(.*)$", data, re.MULTILINE)
        return b"" if found is None else found[1]


def herd_file(folder: Path, relay: Relay, seconds: int) -> Path:
    """As many callers as callees, each pair on a port of its own, the relay in between."""
    common = {"media": "none", "dtmf": "info"}
    callers = [
        {"name": f"caller-{n}", "number": f"{1001 + n}", "address": relay.behind_left}
        | {"port": port, "advertise": relay.left, "proxy": f"{relay.right}:{port}"}
        | common
        for n, port in enumerate(PORTS)
    ]
    callees = [
        {"name": f"callee-{n}", "number": f"{2001 + n}", "address": relay.behind_right}
        | {"port": port, "advertise": relay.right}
        | common
        for n, port in enumerate(PORTS)
    ]
    load = {
        "callers": "caller-*",
        "callees": "callee-*",
        "pairing": "fixed",
        "arrival": RATE,
        "duration": f"{seconds}s",
        "drain": "15s",
        "hold": {"uniform": ["500ms", "2s"]},
        "mix": MIX,
        "seed": 3,
    }
    path = folder / "load.yaml"
    path.write_text(json.dumps({"phones": callers + callees, "load": load}))  # JSON is YAML
    return path


def ran(
    folder: Path, seconds: int, *arguments: str
) -> tuple[Counted, RunFacts, list[CallAttempt], subprocess.CompletedProcess[str]]:
    """A run through a relay, and what both sides say of it."""
    counted = Counted()
    with Relay(loopback_address(), loopback_address(), PORTS, drop=counted.look) as relay:
        file = herd_file(folder, relay, seconds)
        with process("load", file, "--run", folder / "run", *arguments) as running:
            out, err = running.communicate(timeout=seconds + 60)
            done = subprocess.CompletedProcess(running.args, running.returncode, out, err)
    with RunReader(folder / "run") as reader:
        return counted, reader.facts, list(reader.attempts()), done


def check(counted: Counted, attempts: list[CallAttempt]) -> None:
    """Row for row, and exactly the quotas."""
    assert {attempt.sip_call_id: attempt.final_code for attempt in attempts} == counted.codes
    assert counted.invites == set(counted.codes)
    assert len(attempts) == len(counted.codes)
    wanted = quotas([float(str(entry["weight"])) for entry in MIX], len(attempts))
    drawn = Counter(attempt.drawn for attempt in attempts)
    assert drawn == dict(zip((str(entry["kind"]) for entry in MIX), wanted, strict=True))
    assert Counter(attempt.outcome for attempt in attempts) == Counter(
        attempt.expected for attempt in attempts
    )


@pytest.mark.slow
def test_the_relay_saw_what_the_database_says(tmp_path: Path) -> None:
    counted, facts, attempts, done = ran(tmp_path, 5)
    said = f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    check(counted, attempts)
    assert len(attempts) == 5 * RATE
    # A busy box may make it INVALID; nothing may have failed.
    assert facts.verdict is not None, said
    assert facts.verdict["failed"] == [], said
    assert done.returncode == {"PASS": 0, "INVALID": 3}[facts.verdict["kind"]], said


@pytest.mark.soak
def test_a_minute_through_the_relay(tmp_path: Path) -> None:
    counted, facts, attempts, done = ran(tmp_path, 60)
    check(counted, attempts)
    assert abs(len(attempts) - 1200) <= 12
    assert done.returncode == 0, done.stdout[-3000:]
    assert facts.verdict is not None
    assert facts.verdict["kind"] == "PASS"


@pytest.mark.soak
def test_a_minute_of_calls_at_random(tmp_path: Path) -> None:
    counted, _, attempts, done = ran(tmp_path, 60, "--poisson")
    check(counted, attempts)
    assert abs(len(attempts) - 1200) <= 3 * math.sqrt(1200)
    assert done.returncode == 0, done.stdout[-3000:]
