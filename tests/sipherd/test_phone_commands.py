"""The commands about phones, on a herd that runs."""

from __future__ import annotations

import json
import os
import signal

import pytest

from commandline import Run
from sipherd import Herd, PhoneState


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


def test_ps(run: Run, herd: Herd) -> None:
    ran = run("ps", "--herd", herd.name)
    assert ran.code == 0
    heads, alice, bob = rows(ran.out)
    assert heads == [
        *("NAME", "NUMBER", "STATE", "ACTIVITY", "PORT", "PID", "INCARNATION", "RESTARTS"),
        "MEMORY",
    ]
    info = herd["alice"].info()
    assert alice[:8] == ["alice", "1001", "ready", "idle", str(info.port), str(info.pid), "1", "0"]
    assert alice[9] == "MB"
    assert bob[0] == "bob"


def test_ps_for_programs(run: Run, herd: Herd) -> None:
    ran = run("ps", "--herd", herd.name, "--json")
    phones = [json.loads(line) for line in ran.out.splitlines()]
    assert [(phone["name"], phone["state"]) for phone in phones] == [
        ("alice", "ready"),
        ("bob", "ready"),
    ]
    assert phones[0]["memory"] > 1_000_000


def test_ps_tells_why_a_phone_failed(run: Run, herd: Herd) -> None:
    carol = herd.add("carol", media="none", restart="temporary")
    with herd.events(timeout=5) as events:
        os.kill(carol.info().pid, signal.SIGKILL)
        assert any(getattr(event.body, "state", "") == "failed" for event in events)
    ran = run("ps", "--herd", herd.name)
    heads, *_, row = rows(ran.out)
    assert heads[-1] == "WHY"
    assert row[2:5] == ["failed", str(carol.port), "1"]  # neither activity nor pid
    assert "SIGKILL" in row
    assert run("reset", "carol", "--herd", herd.name).out.startswith("carol stopped: ")
    assert run("start", "carol", "--herd", herd.name).out.startswith("carol ready: ")


def test_calls_are_listed_and_shown(run: Run, herd: Herd) -> None:
    call = herd["alice"].call("bob")
    incoming = herd["bob"].incoming(timeout=5)
    call.wait_ringing(timeout=5)
    ran = run("ps", "--calls", "--herd", herd.name)
    heads, out, in_ = rows(ran.out)
    assert heads == ["CALL", "PHONE", "STATE", "FAR", "END"]
    assert out == [call.id, "alice", "to", "ringing", herd["bob"].uri]
    assert in_[:4] == [incoming.id, "bob", "from", "ringing"]

    shown = run("show", "alice", "--herd", herd.name)
    assert [call.id, "alice", "to", "ringing", herd["bob"].uri] in rows(shown.out)
    shown = run("show", call.id, "--herd", herd.name, "--json")
    assert json.loads(shown.out)["target"] == "bob"
    call.hang_up()


def test_show_of_a_phone(run: Run, herd: Herd) -> None:
    ran = run("show", "1001", "--herd", herd.name)
    assert ["port", str(herd["alice"].port)] in rows(ran.out)
    found = json.loads(run("show", "1001", "--herd", herd.name, "--json").out)
    assert (found["name"], found["spec"]["media"]) == ("alice", "none")
    assert isinstance(found["counters"], dict)


def test_show_of_the_herd(run: Run, herd: Herd) -> None:
    ran = run("show", "--herd", herd.name)
    assert ["pid", str(herd.pid)] in rows(ran.out)
    assert ["ports", "allocated", "2"] in rows(ran.out)
    assert json.loads(run("show", "--herd", herd.name, "--json").out)["states"] == {"ready": 2}


def test_a_phone_may_be_called_like_a_call(run: Run, herd: Herd) -> None:
    herd.add("c77", media="none")
    ran = run("show", "c77", "--herd", herd.name)
    assert ["state", "ready"] in rows(ran.out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "alcie"], 'no phone "alcie"; near: alice'),
        (["show", "zz"], 'no phone "zz"; sipherd ps lists them'),
        (["show", "c99"], 'no call "c99"; sipherd ps --calls lists them'),
        (["call", "alcie", "bob"], 'no phone "alcie"; near: alice'),
        (["call", "alice", "1003"], 'no phone "1003"; near: 100'),
        (["cancel", "c99"], 'no call "c99"'),
        (["hangup", "c99"], 'no call "c99"'),
        (["start", "bobb"], 'no phone "bobb"; near: bob'),
        (["stop", "bobb"], 'no phone "bobb"; near: bob'),
        (["remove", "bobb"], 'no phone "bobb"; near: bob'),
        (["events", "--phone", "bobb"], 'no phone "bobb"; near: bob'),
        (["answer", "bobb"], 'no phone "bobb"; near: bob'),
        (["answer", "c99"], 'no call "c99"; sipherd ps --calls lists them'),
    ],
)
def test_unknown_phones_and_calls(run: Run, herd: Herd, arguments: list[str], said: str) -> None:
    ran = run(*arguments, "--herd", herd.name)
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith(f"sipherd: {said}")


def test_events(run: Run, herd: Herd) -> None:
    ran = run("events", "--herd", herd.name, "--json")
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    # Which of two processes is ready first is nobody's promise.
    ready = [event["phone"] for event in events if event.get("state") == "ready"]
    assert sorted(ready) == ["alice", "bob"]

    ran = run("events", "--herd", herd.name, "--phone", "1002")
    assert {row[1] for row in rows(ran.out)} == {"bob"}


def test_stop_and_start(run: Run, herd: Herd) -> None:
    port = herd["alice"].port
    ran = run("stop", "alice", "--herd", herd.name)
    assert ran.code == 0
    assert ran.out.startswith("alice stopped (")
    assert herd["alice"].info().state is PhoneState.STOPPED
    assert run("stop", "alice", "--herd", herd.name).out == "alice was not running\n"
    ran = run("start", "1001", "--herd", herd.name, "--json")
    assert json.loads(ran.out)["port"] == port
    assert herd["alice"].info().state is PhoneState.READY


def test_stop_of_several(run: Run, herd: Herd) -> None:
    ran = run("stop", "alice", "bob", "--now", "--herd", herd.name)
    assert ran.out.startswith("2 phones stopped in ")


def test_restart(run: Run, herd: Herd) -> None:
    before = herd["alice"].info().pid
    ran = run("restart", "--herd", herd.name)
    assert [line.split(":")[0] for line in ran.out.splitlines()] == ["alice ready", "bob ready"]
    assert herd["alice"].info().pid != before


def test_a_phone_with_no_port_left(run: Run, herd: Herd) -> None:
    ran = run("add", "carol", "--port", str(herd["alice"].port), "--herd", herd.name)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "belongs to phone alice" in line


def test_add_and_remove(run: Run, herd: Herd) -> None:
    options = ["--number", "1003", "--port", "0", "--answer-after", "0", "--hang-up-after", "1m"]
    options += ["--media", "none", "--ring-timeout", "5s", "--queue", "1", "--trace"]
    ran = run("add", "carol", *options, "--herd", herd.name)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("carol ready: 1003 at 127.0.0.1:")
    spec = herd["carol"].info().spec
    assert (spec.number, spec.media, spec.queue, spec.trace) == ("1003", "none", 1, True)
    assert spec.on_incoming is not None
    assert (spec.on_incoming.answer_after, spec.on_incoming.hang_up_after) == (0.0, 60.0)
    assert run("add", "carol", "--port", "0", "--herd", herd.name).code == 2

    ran = run("remove", "carol", "--herd", herd.name, "--json")
    assert json.loads(ran.out)["phone"] == "carol"
    assert len(herd) == 2


def test_the_herd_stops(run: Run, herd: Herd) -> None:
    ran = run("stop", "--herd", herd.name)
    assert ran.code == 0
    assert ran.out.startswith(f"herd {herd.name} stopped: 2 phones stopped in ")
    assert run("ps", "--herd", herd.name).code == 2
