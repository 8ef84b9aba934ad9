"""Reloads as the supervisor's core carries them out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sipherd.protocol.events import HerdReloaded, PhoneAdded, PhoneRemoved
from sipherd.protocol.exits import WorkerExit
from sipherd.protocol.messages import (
    AddPhones,
    AskToRegister,
    Done,
    Drained,
    Hello,
    Ready,
    Refused,
    RegisterNow,
    Reload,
    ReloadReport,
    StopHerd,
    StopPhones,
    Welcome,
)
from sipherd.protocol.spec import HerdPorts, PhoneSpec, PortRange
from sipherd.protocol.states import PhoneState
from sipherd.supervisor.effects import (
    Begin,
    ForkRefused,
    HerdFileBad,
    HerdFileRead,
    Log,
    ReadHerdFile,
    ReloadRequested,
    StartProcess,
)
from supervisor_driver import Driver, phone

ALICE, BOB, CAROL = phone("alice", "1001"), phone("bob", "1002"), phone("carol", "1003")


def up(*specs: PhoneSpec, **keys: Any) -> Driver:
    herd = Driver(*specs, **keys)
    herd.begin()
    return herd


def read(herd: Driver, *specs: PhoneSpec, dry_run: bool = False, **more: Any) -> int:
    """A reload whose file says this; the number of the command."""
    id = herd.ask(Reload(dry_run=dry_run))
    assert herd.wanted(ReadHerdFile)
    herd.step(HerdFileRead(msgspec.structs.replace(herd.spec, phones=specs, **more)))
    return id


def report(herd: Driver, id: int) -> ReloadReport:
    reply = herd.reply(id)
    assert isinstance(reply, Done), reply
    assert isinstance(reply.result, ReloadReport)
    return reply.result


def refusal(herd: Driver, id: int) -> Refused:
    reply = herd.reply(id)
    assert isinstance(reply, Refused), reply
    return reply


def restarted(herd: Driver, name: str) -> Welcome:
    """Let a phone drain and start again; what its new process is told."""
    herd.drain(name)
    (start,) = (start for start in herd.wanted(StartProcess) if start.phone == name)
    pid = herd.fork(start)
    herd.from_worker(name, Hello(pid=pid, token=start.token))
    (welcome,) = (body for body in herd.to_worker(name) if isinstance(body, Welcome))
    herd.from_worker(name, Ready())
    return welcome


def ports(herd: Driver) -> dict[str, int]:
    return {phone.name: phone.port for phone in herd.core.table}


def test_phones_come_go_and_change_and_the_others_are_left_alone() -> None:
    herd = up(ALICE, BOB, CAROL)
    call = herd.place("carol", "sip:peer@127.0.0.1:5099")
    before = herd.phone("carol").pid
    bob = msgspec.structs.replace(BOB, display_name="Bob")
    id = read(herd, bob, CAROL, phone("dora", "1004"))
    assert herd.reply(id) is None
    herd.bring_up()
    herd.drain("alice")
    welcome = restarted(herd, "bob")
    assert report(herd, id) == ReloadReport(
        added=("dora",), removed=("alice",), changed=("bob",), unchanged=("carol",)
    )
    assert ports(herd) == {"bob": 5062, "carol": 5064, "dora": 5066}
    assert welcome.spec.display_name == "Bob"
    assert herd.phone("carol").pid == before
    assert [c.id for c in herd.phone("carol").calls.values()] == [call]
    assert not herd.to_worker("carol")
    assert herd.told(HerdReloaded) == [
        HerdReloaded(added=("dora",), removed=("alice",), changed=("bob",))
    ]
    assert herd.core.spec.phones == (bob, CAROL, phone("dora", "1004"))


def test_the_same_file_is_over_at_once() -> None:
    herd = up(ALICE, BOB)
    assert report(herd, read(herd, ALICE, BOB)) == ReloadReport(unchanged=("alice", "bob"))


def test_a_dry_run_changes_nothing() -> None:
    herd = up(ALICE, BOB)
    id = read(herd, ALICE, CAROL, dry_run=True, register_rate=1.0)
    assert report(herd, id) == ReloadReport(
        added=("carol",), removed=("bob",), unchanged=("alice",), herd=("register_rate",)
    )
    assert ports(herd) == {"alice": 5060, "bob": 5062}
    assert herd.core.spec.phones == (ALICE, BOB)
    assert not herd.told(HerdReloaded)


def test_a_number_moves_from_one_phone_to_another() -> None:
    herd = up(ALICE, BOB)
    a, b = phone("alice", "1002"), phone("bob", "1001")
    id = read(herd, a, b)
    assert herd.phone("1002").name == "alice"
    restarted(herd, "alice")
    restarted(herd, "bob")
    assert report(herd, id).changed == ("alice", "bob")
    assert (herd.phone("1001").name, herd.phone("1002").name) == ("bob", "alice")
    assert (herd.phone("alice").port, herd.phone("bob").port) == (5060, 5062)


def test_a_number_goes_from_a_removed_phone_to_a_new_one_at_once() -> None:
    herd = up(ALICE, BOB)
    id = read(herd, BOB, phone("anna", "1001"))
    assert herd.phone("1001").name == "anna"
    herd.bring_up()
    herd.drain("alice")
    assert report(herd, id).added == ("anna",)
    assert herd.phone("1001").name == "anna"


def test_a_fixed_port_goes_to_a_phone_with_another_name() -> None:
    herd = up(phone("alice", port=5070), BOB)
    id = read(herd, phone("anna", port=5070), BOB)
    assert not herd.wanted(StartProcess)  # the port is alice's until she is gone
    herd.drain("alice")
    herd.bring_up()
    assert report(herd, id).added == ("anna",)
    assert ports(herd) == {"bob": 5060, "anna": 5070}
    assert sorted(herd.kernel.bound.values()) == [5060, 5070]


def test_two_phones_swap_their_ports() -> None:
    herd = up(phone("alice", port=5070), phone("bob", port=5080))
    id = read(herd, phone("alice", port=5080), phone("bob", port=5070))
    herd.drain("alice")
    assert not herd.wanted(StartProcess)
    herd.drain("bob")
    herd.bring_up()
    assert report(herd, id).changed == ("alice", "bob")
    assert ports(herd) == {"alice": 5080, "bob": 5070}
    assert sorted(herd.kernel.bound.values()) == [5070, 5080]
    # The bookkeeping, too: neither port is anybody else's.
    refused = herd.answer(AddPhones(specs=(phone("thief", port=5070),)))
    assert refused.message == "phone thief: port 5070 belongs to phone bob"


def test_a_new_port_is_bound_before_anything_is_stopped() -> None:
    herd = up(phone("alice", port=5070), BOB)
    id = read(herd, phone("alice", port=5072), BOB)
    assert 5072 in herd.kernel.bound.values()
    welcome = restarted(herd, "alice")
    assert welcome.port == 5072
    assert report(herd, id).changed == ("alice",)
    assert sorted(herd.kernel.bound.values()) == [5060, 5072]


def test_more_calls_take_a_new_block_of_rtp_ports() -> None:
    herd = up(phone("alice", media="audio", max_calls=1), phone("bob", media="audio", max_calls=1))
    assert herd.phone("alice").rtp_first == 20000
    bob = phone("bob", media="audio", max_calls=1)
    id = read(herd, phone("alice", media="audio", max_calls=4), bob)
    assert herd.phone("alice").rtp_first == 20000  # its process still has these
    welcome = restarted(herd, "alice")
    assert report(herd, id).changed == ("alice",)
    assert (welcome.rtp_first, welcome.rtp_pairs) == (20004, 4)
    added = herd.ask(AddPhones(specs=(phone("carol", media="audio", max_calls=1),)))
    herd.bring_up()
    assert isinstance(herd.reply(added), Done)
    assert herd.phone("carol").rtp_first == 20000


def test_an_addition_that_can_t_be_made_changes_nothing() -> None:
    herd = up(ALICE, BOB)
    herd.kernel.foreign[5070] = "sipp (pid 7)"
    id = read(
        herd,
        phone("alice", "1001", media="audio", max_calls=3),
        phone("carol"),
        phone("dora", port=5070),
        register_rate=1.0,
        ports=HerdPorts(sip=PortRange(7000, 7010)),
    )
    refused = refusal(herd, id)
    assert refused.reason == "no_port"
    assert refused.message.startswith(
        "phone dora: port 5070 on 127.0.0.1 is in use by sipp (pid 7)"
    )
    assert ports(herd) == {"alice": 5060, "bob": 5062}
    assert sorted(herd.kernel.bound.values()) == [5060, 5062]
    assert herd.core.spec.phones == (ALICE, BOB)
    assert not herd.told(PhoneAdded, lambda event: event.phone == "carol")
    # Nothing of what was tried is kept from others: neither ports nor RTP ports, nor the range.
    added = herd.ask(AddPhones(specs=(phone("x", media="audio"),)))
    herd.bring_up()
    assert isinstance(herd.reply(added), Done)
    assert herd.phone("x").port == 5064
    assert herd.phone("x").rtp_first == herd.phone("bob").rtp_first + 2


@pytest.mark.parametrize("by_signal", [False, True])
def test_a_bad_file_is_one_line_and_changes_nothing(by_signal: bool) -> None:
    herd = up(ALICE)
    id = 0
    if by_signal:
        herd.step(ReloadRequested())
    else:
        id = herd.ask(Reload())
    herd.step(HerdFileBad("herd.yaml:3: $.phones[0].port: 'x': expected a whole number"))
    if by_signal:
        (line,) = herd.wanted(Log)
        assert (line.level, line.event) == ("error", "reload_refused")
        assert line.fields["why"].startswith("herd.yaml:3:")
    else:
        assert refusal(herd, id).reason == "bad_herd_file"
    assert herd.core.phase == "ready"
    assert report(herd, read(herd, ALICE)).unchanged == ("alice",)


def test_a_field_of_the_herd_that_can_t_change_is_named() -> None:
    herd = up(ALICE)
    id = herd.ask(Reload())
    herd.step(HerdFileRead(msgspec.structs.replace(herd.spec, herd="other")))
    assert refusal(herd, id).message.startswith("herd can't change while the herd is up")


def test_the_rate_of_registers_takes_effect() -> None:
    herd = up(ALICE)
    read(herd, ALICE, register_rate=2.0)
    for _ in range(2):
        herd.from_worker("alice", AskToRegister())
    herd.after(0.49)
    assert herd.to_worker("alice") == [RegisterNow()]
    herd.after(0.02)
    assert herd.to_worker("alice") == [RegisterNow()]


def test_a_wider_range_gives_ports_to_what_is_added() -> None:
    herd = up(ALICE, sip="5060-5061")
    assert refusal(herd, read(herd, ALICE, BOB)).reason == "no_port"
    wider = HerdPorts(sip=PortRange(5060, 5070), rtp=PortRange(30000, 30009))
    id = read(herd, ALICE, BOB, ports=wider)
    herd.bring_up()
    assert report(herd, id).herd == ("ports",)
    assert herd.phone("bob").port == 5062
    assert herd.phone("bob").rtp_first == 30000


def test_a_stopped_phone_stays_stopped_and_a_failed_one_gets_another_chance() -> None:
    herd = up(ALICE, BOB)
    herd.ask(StopPhones(which=("alice",)))
    herd.drain("alice")
    herd.die("bob", exit_code=WorkerExit.CONFIGURATION)
    a, b = phone("alice", "2001", port=5080), phone("bob", "2002")
    id = read(herd, a, b)
    herd.bring_up()
    assert report(herd, id).changed == ("alice", "bob")
    assert (herd.state("alice"), herd.phone("2001").port) == (PhoneState.STOPPED, 5080)
    assert herd.state("bob") is PhoneState.READY
    assert list(herd.kernel.bound.values()) == [5062]


def test_one_that_is_being_stopped_is_waited_for() -> None:
    herd = up(ALICE, BOB)
    herd.ask(StopPhones(which=("alice",)))
    refused = refusal(herd, read(herd, phone("alice", "2001"), BOB))
    assert refused.message == "being stopped right now: alice; try again when it is"


def test_a_phone_that_does_not_come_up_is_a_problem_and_no_secret() -> None:
    herd = up(ALICE)
    id = read(herd, ALICE, BOB)
    while herd.state("bob") is not PhoneState.FAILED:
        for start in herd.wanted(StartProcess):
            herd.step(ForkRefused(start.phone, start.incarnation, "Resource temporarily gone"))
        if herd.state("bob") is not PhoneState.FAILED:
            herd.after(1.0)
    (problem,) = report(herd, id).problems
    assert problem.startswith("phone bob did not start: no process: Resource temporarily gone")


def test_a_phone_that_never_settles_does_not_keep_the_next_reload_waiting() -> None:
    herd = up(ALICE)
    id = read(herd, ALICE, BOB)
    herd.core.table.find("bob").start_timer.cancel()  # type: ignore[union-attr]
    herd.after(60.0)
    assert report(herd, id).problems == ("phone bob is not ready yet (starting)",)
    assert herd.core.phase == "ready"
    read(herd, ALICE, BOB, CAROL)


def test_one_reload_at_a_time_and_a_signal_meanwhile_is_not_lost() -> None:
    herd = up(ALICE)
    id = herd.ask(Reload())
    assert herd.wanted(ReadHerdFile)
    second = herd.ask(Reload())
    assert refusal(herd, second).reason == "reload_running"
    herd.step(ReloadRequested())
    assert not herd.wanted(ReadHerdFile)
    assert herd.core.phase == "reloading"
    herd.step(HerdFileRead(herd.spec))
    assert report(herd, id).unchanged == ("alice",)
    assert herd.wanted(ReadHerdFile)
    herd.step(HerdFileRead(herd.spec))
    assert herd.core.phase == "ready"


def test_not_while_the_herd_starts() -> None:
    herd = Driver(ALICE)
    herd.step(Begin(herd.spec.phones))
    assert refusal(herd, herd.ask(Reload())).reason == "herd_starting"
    herd.step(ReloadRequested())
    assert [line.event for line in herd.wanted(Log)] == ["reload_refused"]
    assert not herd.wanted(ReadHerdFile)


def test_a_stop_in_the_middle_ends_it() -> None:
    herd = up(phone("alice", port=5070), BOB)
    id = read(herd, phone("anna", port=5070), BOB, CAROL)
    stop = herd.ask(StopHerd())
    herd.drain("bob")
    herd.drain("alice")
    herd.step(
        ForkRefused("carol", herd.phone("carol").incarnation, "too late")
    )  # it was being started, and is killed
    assert isinstance(herd.reply(stop), Done)
    assert report(herd, id).problems
    assert herd.finished() is not None
    assert not herd.kernel.bound


def test_what_was_removed_is_forgotten_with_its_ports() -> None:
    herd = up(ALICE, BOB)
    id = read(herd, BOB)
    herd.from_worker("alice", Drained())
    herd.die("alice", exit_code=0)
    assert report(herd, id).removed == ("alice",)
    assert [event.phone for event in herd.events if isinstance(event.body, PhoneRemoved)] == [
        "alice"
    ]
    assert list(herd.kernel.bound.values()) == [5062]
