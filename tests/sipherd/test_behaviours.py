"""Functions that run in phones' processes: what can be one, and what becomes of its phone."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sipherd import (
    BehaviourError,
    CallState,
    CommandRefused,
    Event,
    EventStream,
    Herd,
    Phone,
    PhoneState,
)
from sipherd.behaviours import pack
from sipherd.protocol.behaviour import Behaviour
from sipherd.protocol.events import (
    AnyBody,
    BehaviourEnded,
    BehaviourFailed,
    BehaviourStarted,
    CallEnded,
    PhoneDied,
    PhoneLate,
    PhoneMoved,
)
from sipherd.protocol.messages import AddPhones
from sipherd.protocol.spec import PhoneSpec


@pytest.fixture
def herd() -> Iterator[Herd]:
    """One phone that leaves its calls to clients."""
    with Herd([{"name": "bob", "number": "1002", "media": "none"}]) as herd:
        yield herd


@pytest.fixture
def events(herd: Herd) -> Iterator[EventStream]:
    """All that happens, from now on; given up when nothing does."""
    with herd.events(timeout=20) as events:
        yield events


def await_event(
    events: EventStream, kind: type[AnyBody], phone: str = "alice", state: str = ""
) -> Event:
    """The next event of this kind at the phone."""
    for event in events:
        body = event.body
        state_fits = not isinstance(body, PhoneMoved) or body.state == state
        if isinstance(body, kind) and event.phone == phone and state_fits:
            return event
    raise TimeoutError(f"no {kind.__name__} of {phone}")


def answer_all(phone: Phone) -> None:
    while True:
        phone.incoming().answer()


def ran_elsewhere(script: Path) -> subprocess.CompletedProcess[str]:
    """The script, with another current directory than its own."""
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        check=False,
    )


# What happens to it, and to its phone.


def test_a_closure_runs_in_the_phones_process(
    herd: Herd, events: EventStream, tmp_path: Path
) -> None:
    note = tmp_path / "note"

    def write(phone: Phone) -> None:
        note.write_text(f"{phone.name} {phone.info().state.value} {os.getpid()}")

    alice = herd.add("alice", behaviour=write, media="none")
    started = await_event(events, BehaviourStarted)
    ended = await_event(events, BehaviourEnded)
    pid = alice.info().pid
    assert started.body == BehaviourStarted(name="write", pid=pid)
    assert started.pid == pid != os.getpid()
    assert ended.body == BehaviourEnded(name="write", why="returned")
    assert note.read_text() == f"alice ready {pid}"
    # The phone goes on.
    call = herd["bob"].call("alice")
    alice.incoming(timeout=5).answer()
    call.wait_answered(timeout=5)
    assert alice.info().behaviour == "write"


def test_its_crash_costs_its_phone_alone(herd: Herd, events: EventStream) -> None:
    """Three phones, one behaviour that raises in mid-call: the call of the two others stays up."""

    def fail(phone: Phone) -> None:
        call = phone.incoming()
        call.answer()
        call.wait_dtmf()
        raise ValueError("boom")

    bob = herd["bob"]
    carol = herd.add("carol", behaviour=answer_all, media="none")
    others = bob.call(carol)
    others.wait_answered(timeout=10)

    alice = herd.add("alice", behaviour=fail, dtmf="info")
    mine = herd.add("dave").call(alice)
    mine.wait_answered(timeout=10)
    first = await_event(events, BehaviourStarted)
    mine.send_dtmf("1")
    failed = await_event(events, BehaviourFailed)
    assert isinstance(failed.body, BehaviourFailed)
    assert failed.body.error == "ValueError: boom"
    assert 'raise ValueError("boom")' in failed.body.traceback
    died = await_event(events, PhoneDied).body
    assert isinstance(died, PhoneDied)
    assert died.cause == "its behaviour fail failed: ValueError: boom"
    assert len(died.calls) == 1
    # It is back, and runs again; its caller is hung up on.
    again = await_event(events, BehaviourStarted)
    assert (again.incarnation, again.pid) == (2, alice.info().pid)
    assert again.pid != first.pid
    assert mine.wait_ended(timeout=10).by == "remote"
    assert bob.call(alice).wait_answered(timeout=10)

    assert others.state is CallState.ANSWERED
    assert others.hang_up(timeout=10).bye_answered is True
    infos = {info.name: info.deaths for info in herd.phones()}
    assert infos == {"bob": 0, "carol": 0, "alice": 1, "dave": 0}


def test_a_temporary_phone_is_parked(herd: Herd, events: EventStream) -> None:
    def fail(phone: Phone) -> None:
        raise ValueError("boom")

    alice = herd.add("alice", behaviour=fail, restart="temporary", media="none")
    await_event(events, PhoneMoved, state="failed")
    info = alice.info()
    assert (info.state, info.restarts) == (PhoneState.FAILED, 0)
    assert info.why == "its behaviour fail failed: ValueError: boom"


def test_it_places_calls_of_its_own(herd: Herd) -> None:
    """The herd, and a phone of it, that it uses are the same ones there."""
    bob = herd["bob"]

    def call(phone: Phone) -> None:
        assert len(herd) == 2
        phone.call(bob).wait_answered()
        phone.incoming()

    herd.add("alice", behaviour=call, number="1001", media="none")
    incoming = bob.incoming(timeout=10)
    assert incoming.from_uri == "sip:1001@127.0.0.1"
    incoming.answer()
    incoming.wait_answered(timeout=10)


def test_its_calls_end_with_it(herd: Herd) -> None:
    def call(phone: Phone) -> None:
        phone.call("bob").wait_answered()

    herd.add("alice", behaviour=call, media="none")
    incoming = herd["bob"].incoming(timeout=10)
    incoming.answer()
    assert incoming.wait_ended(timeout=10).by == "remote"


@pytest.mark.parametrize("now", [False, True])
def test_its_phone_is_stopped_while_it_waits(herd: Herd, events: EventStream, now: bool) -> None:
    alice = herd.add("alice", behaviour=answer_all, media="none")
    call = herd["bob"].call(alice)
    call.wait_answered(timeout=10)
    report = alice.stop(now=now)
    assert report.seconds < 5  # SIGTERM
    assert report.how == ("terminated" if now else "drained")
    assert call.wait_ended(timeout=10).by == "remote"
    alice.start()
    herd["bob"].call(alice).wait_answered(timeout=10)
    deaths = [e for e in _so_far(events) if isinstance(e.body, PhoneDied | BehaviourFailed)]
    assert deaths == []


def _so_far(events: EventStream) -> list[Event]:
    found = []
    while (event := events._next(0.2)) is not None:
        found.append(event)
    return found


def test_the_herd_is_drained_while_it_wants_more(herd: Herd) -> None:
    """What it is refused for that reason is no failure: its call goes on to its end."""

    def call_on(phone: Phone) -> None:
        while True:
            phone.call("bob").wait_ended()

    herd.add("alice", behaviour=call_on, media="none")
    bob = herd["bob"]
    first = bob.incoming(timeout=10)
    first.answer()
    first.hang_up(timeout=10)
    second = bob.incoming(timeout=10)
    second.answer()
    second.wait_answered(timeout=10)
    os.kill(herd.pid, signal.SIGUSR1)
    with herd.events(timeout=10, after=0) as events:
        assert any(event.body.__class__.__name__ == "HerdDraining" for event in events)
        second.hang_up(timeout=10)
        assert not any(isinstance(event.body, PhoneDied | BehaviourFailed) for event in events)


def test_the_supervisor_dies_while_it_waits(herd: Herd, events: EventStream, killed: None) -> None:
    """Nobody is left: the phones say goodbye and go, whatever their behaviours do."""

    def stubborn(phone: Phone) -> None:
        while True:
            try:
                phone.incoming()
            except Exception:
                time.sleep(0.01)

    herd.add("alice", behaviour=stubborn, media="none")
    await_event(events, BehaviourStarted)
    family = psutil.Process(herd.pid).children(recursive=True)
    os.kill(herd.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def hold_the_lock(phone: Phone) -> None:
    sum(itertools.repeat(0))  # a loop in C, which no other thread can interrupt


def test_it_keeps_the_interpreter_to_itself(herd: Herd, events: EventStream) -> None:
    """That is a hang like any other."""
    hang = {"late": 0.3, "suspect": 0.6, "hung": 1.0}
    herd.add("alice", behaviour=lambda phone: hold_the_lock(phone), hang=hang, media="none")
    await_event(events, PhoneLate)
    died = await_event(events, PhoneDied).body
    assert isinstance(died, PhoneDied)
    assert died.cause.startswith("hung: ")


def test_its_phone_is_stopped_while_it_keeps_the_interpreter(
    herd: Herd, events: EventStream
) -> None:
    hang = {"late": 0.3, "suspect": 60, "hung": 0}
    alice = herd.add("alice", behaviour=lambda p: hold_the_lock(p), hang=hang, media="none")
    await_event(events, PhoneLate)
    report = alice.stop(now=True)
    assert report.how == "killed"
    assert report.seconds < 10


def test_it_leaves_without_a_word(herd: Herd, events: EventStream) -> None:
    herd.add("alice", behaviour=lambda phone: os._exit(3), restart="temporary", media="none")
    died = await_event(events, PhoneDied).body
    assert isinstance(died, PhoneDied)
    assert died.cause == "exit code 3"


def test_it_leaves_as_a_script_does(herd: Herd, events: EventStream) -> None:
    herd.add("alice", behaviour=lambda phone: sys.exit(), media="none")
    await_event(events, BehaviourEnded)
    herd.add("carol", behaviour=lambda phone: sys.exit(3), restart="temporary", media="none")
    failed = await_event(events, BehaviourFailed, "carol").body
    assert isinstance(failed, BehaviourFailed)
    assert failed.error == "SystemExit: 3"


def test_it_prints_much(herd: Herd, events: EventStream, capfd: pytest.CaptureFixture[str]) -> None:
    """What nobody has the time to read is dropped; nobody waits for it."""

    def chatter(phone: Phone) -> None:
        for n in range(200_000):
            print(n, "x" * 100)
        answer_all(phone)

    alice = herd.add("alice", behaviour=chatter, media="none")
    herd["bob"].call(alice).wait_answered(timeout=20)
    assert alice.info().deaths == 0
    capfd.readouterr()


def test_it_wants_more_memory_than_there_is(herd: Herd, events: EventStream) -> None:
    def hoard(phone: Phone) -> None:
        kept = []
        while True:
            kept.append(bytearray(1_000_000))

    limits = {"memory": 100_000_000}
    herd.add("alice", behaviour=hoard, limits=limits, restart="temporary", media="none")
    died = await_event(events, PhoneDied).body
    assert isinstance(died, PhoneDied)
    assert died.cause.startswith("memory ceiling 100")


# What can be one.


def _closure() -> Callable[[Phone], None]:
    code = 603

    def reject(phone: Phone) -> None:
        phone.incoming().reject(code)

    return reject


def test_what_can_be_one(herd: Herd) -> None:
    behaviours: list[Callable[[Phone], object]] = [
        lambda phone: phone.incoming().reject(603),
        functools.partial(lambda code, phone: phone.incoming().reject(code), 603),
        _closure(),
    ]
    for n, behaviour in enumerate(behaviours):
        herd.add(f"alice-{n}", behaviour=behaviour, media="none")
        assert herd["bob"].call(f"alice-{n}").wait_ended(timeout=10).code == 603


def test_of_a_script(tmp_path: Path) -> None:
    """Functions and classes of its own, and a module that lies beside it."""
    (tmp_path / "beside.py").write_text("CODE = 603\n\ndef reject(call):\n    call.reject(CODE)\n")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import socket
            import beside
            from sipherd import Herd

            unused = socket.socket()

            class Policy:
                def apply(self, call):
                    beside.reject(call)

            def helper(phone):
                Policy().apply(phone.incoming())

            def first(phone):
                helper(phone)

            class Second:
                def __init__(self, code):
                    self.code = code

                def __call__(self, phone):
                    phone.incoming().reject(self.code)

            with Herd([{"name": "bob", "media": "none"}]) as herd:
                herd.add("one", behaviour=first, media="none")
                herd.add("two", behaviour=Second(604), media="none")
                herd.add("three", behaviour=Second(606).__call__, media="none")
                for name in "one", "two", "three":
                    print(herd["bob"].call(name).wait_ended(timeout=10).code)
        """)
    )
    ran = ran_elsewhere(script)
    assert (ran.stdout, ran.returncode) == ("603\n604\n606\n", 0), ran.stderr


def test_of_a_module_that_no_import_finds(tmp_path: Path) -> None:
    """pytest loads test files so; here it is loaded by its path as well."""
    module = tmp_path / "calls.py"
    module.write_text(
        "class Code:\n    value = 603\n\n"
        "def reject(phone):\n    phone.incoming().reject(Code.value)\n"
    )
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(
        textwrap.dedent(f"""
            import importlib.util, sys
            from sipherd import Herd

            spec = importlib.util.spec_from_file_location("pack.calls", {str(module)!r})
            sys.modules["pack.calls"] = calls = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(calls)

            with Herd([{{"name": "bob", "media": "none"}}]) as herd:
                herd.add("alice", behaviour=calls.reject, media="none")
                print(herd["bob"].call("alice").wait_ended(timeout=10).code)
        """)
    )
    ran = ran_elsewhere(script)
    assert (ran.stdout, ran.returncode) == ("603\n", 0), ran.stderr


# What can't.


async def later(phone: Phone) -> None:
    """Never awaited."""


def one_by_one(phone: Phone) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (5, "behaviour int of phone alice: expected a function, not int"),
        (later, "behaviour later of phone alice is async: "),
        (one_by_one, "behaviour one_by_one of phone alice has a yield"),
        (lambda: 0, r"takes \(\): it is called with one argument, the phone"),
        (lambda phone, more: 0, r"takes \(phone, more\): it is called with one argument"),
        (lambda phone, big=bytes(300_000): 0, r"takes 300\d\d\d bytes .*, at most 262144; have it"),
    ],
)
def test_what_can_not_be_one(behaviour: Any, why: str) -> None:
    nowhere = Herd.__new__(Herd)
    nowhere._name, nowhere._where = "nowhere", Path("/nonexistent")
    with pytest.raises(BehaviourError, match=why) as caught:
        pack(behaviour, nowhere, "alice")
    assert "\n" not in str(caught.value)


def test_what_can_not_travel(herd: Herd) -> None:
    """One line that names the variable, and nothing is created."""
    with socket.socket() as ours, pytest.raises(BehaviourError) as caught:
        herd.add("alice", behaviour=lambda phone: ours.close())
    assert str(caught.value) == (
        "behaviour <lambda> of phone alice can't be handed to another process because of its "
        "variable \"ours\" (cannot pickle 'socket' object); have it make there what it needs"
    )
    assert [info.name for info in herd.phones()] == ["bob"]


def test_another_herd_can_not_travel(herd: Herd) -> None:
    with Herd([{"name": "eve", "media": "none"}]) as other:
        eve = other["eve"]
        with pytest.raises(BehaviourError, match=r'of its variable "eve" \(herd private-'):
            herd.add("alice", behaviour=lambda phone: phone.call(eve))


def test_the_same_herd_joined_once_more_can(herd: Herd) -> None:
    with Herd.connect(herd.name) as again:
        bob = again["bob"]
        herd.add("alice", behaviour=lambda phone: phone.call(bob).wait_answered(), media="none")
        herd["bob"].incoming(timeout=10)


class _Bomb:
    """It goes off where it is unpacked."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.what,)


def test_what_can_not_be_unpacked(herd: Herd) -> None:
    """It is one clear error here, and the phone never comes up."""
    for what, why in (
        ("import nonesuch", "ModuleNotFoundError: No module named 'nonesuch'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ):
        bomb = _Bomb(what)

        def explode(phone: Phone, bomb: _Bomb = bomb) -> None:
            print(bomb)

        with pytest.raises(CommandRefused) as caught:
            herd.add("alice", behaviour=explode, media="none")
        assert caught.value.reason == "start_failed"
        assert str(caught.value) == (
            f"phone alice did not start: its behaviour explode can't be loaded: {why}"
        )
        assert [info.name for info in herd.phones()] == ["bob"]
    # And what is no pickle at all.
    garbage = AddPhones(
        specs=(PhoneSpec(name="alice", number="1", port=0, media="none"),),
        behaviours={"alice": Behaviour(name="f", code=b"garbage")},
    )
    with pytest.raises(CommandRefused, match="its behaviour f can't be loaded"):
        herd._connection.request(garbage)
    assert [info.name for info in herd.phones()] == ["bob"]


def test_the_log_has_its_traceback_and_not_its_code(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(phone: Phone) -> None:
        raise ValueError("boom")

    with Herd() as herd, herd.events(timeout=20) as events:
        herd.add("alice", behaviour=fail, restart="temporary", media="none")
        await_event(events, PhoneMoved, state="failed")
    err = capfd.readouterr().err
    assert "behaviour_failed" in err
    assert "ValueError: boom" in err
    assert "_unpack" not in err


def test_a_call_of_a_phone_that_failed_is_told_as_crashed(herd: Herd, events: EventStream) -> None:
    def fail(phone: Phone) -> None:
        phone.incoming().answer()
        raise ValueError("boom")

    herd.add("alice", behaviour=fail, restart="temporary", media="none")
    herd["bob"].call("alice").wait_ended(timeout=10)
    ended = await_event(events, CallEnded).body
    assert isinstance(ended, CallEnded)
    assert ended.cause == "phone_crashed"
