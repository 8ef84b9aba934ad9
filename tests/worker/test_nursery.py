"""Real nurseries and real workers: how phones begin, how they die, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from smallherd import SmallHerd, SmallPhone, descriptors, is_alive, nobody_at, sip_socket

from sipherd.protocol.events import Answered, CallEnded, IncomingCall, SipTrace
from sipherd.protocol.fork import Died, Fork, ForkFailed, pack
from sipherd.protocol.messages import (
    Counters,
    Done,
    Drain,
    Drained,
    Exit,
    HangUpCall,
    Hello,
    PlaceCall,
)
from sipherd.protocol.spec import PhoneSpec

ANSWERS: dict[str, Any] = {"on_incoming": {"answer_after": 0}, "media": "none"}


def call(phone: SmallPhone, target: str, name: str = "c1") -> None:
    done = phone.run(PlaceCall(phone=phone.spec.name, target=target, call=name, dialled="peer"))
    assert isinstance(done, Done), done


def up(herd: SmallHerd) -> tuple[SmallPhone, SmallPhone]:
    """Alice in a call with bob, who answers by himself."""
    alice, bob = herd.fork("alice", media="none"), herd.fork("bob", **ANSWERS)
    call(alice, bob.uri)
    alice.wait(Answered)
    return alice, bob


# Calls


def test_a_call_from_phone_to_phone(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    assert isinstance(alice.run(HangUpCall(call="c1")), Done)
    alice.wait(CallEnded)
    kinds = [type(event).__name__ for event in alice.events()]
    assert kinds == ["CallPlaced", "Progress", "Answered", "CallEnded"]
    assert bob.wait(CallEnded).by == "remote"
    assert alice.heard(CallEnded)[0].bye_answered is True
    assert alice.printed() == bob.printed() == ""


def test_many_calls_one_after_the_other_leave_nothing(herd: SmallHerd) -> None:
    """With audio: each call binds ports, and gives them back."""
    alice = herd.fork("alice")
    bob = herd.fork("bob", on_incoming={"answer_after": 0})
    before = []
    for number in range(1, 31):
        call(alice, bob.uri, f"c{number}")
        alice.wait(Answered, number)
        if number == 1:
            before = [len(descriptors(phone.pid)) for phone in (alice, bob)]
        alice.run(HangUpCall(call=f"c{number}"))
        alice.wait(CallEnded, number)
        bob.wait(CallEnded, number)
    # A pair of sockets each less than in a call.
    assert [len(descriptors(phone.pid)) + 2 for phone in (alice, bob)] == before


def test_icmp_ends_the_call_and_not_the_socket(herd: SmallHerd) -> None:
    alice, bob = herd.fork("alice", media="none"), herd.fork("bob", **ANSWERS)
    with nobody_at("127.0.0.1") as port:
        call(alice, f"sip:x@127.0.0.1:{port}", "c1")
        ended = alice.wait(CallEnded)
    assert (ended.cause, ended.code) == ("unreachable", 503)
    call(alice, bob.uri, "c2")
    assert alice.wait(Answered).call == "c2"
    assert cpu_seconds(alice.pid) < 1  # a POLLERR that stays would spin
    alice.send(Drain())
    alice.wait(Drained)
    counters = alice.heard(Counters)[-1].values
    assert counters["sip_icmp"] == 1
    assert counters["sip_unreachable"] == 1


def test_an_icmp_error_is_not_taken_for_that_of_another_call(herd: SmallHerd) -> None:
    """The kernel reports it at the next use of the socket, whoever that is for."""
    alice, bob = herd.fork("alice", media="none"), herd.fork("bob", **ANSWERS)
    with nobody_at("127.0.0.1") as port:
        for number in range(1, 20, 2):
            alice.send(place(f"sip:x@127.0.0.1:{port}", f"c{number}"), 1000 + number)
            alice.send(place(bob.uri, f"c{number + 1}"), 1001 + number)
        alice.wait(CallEnded, 10)
    alice.wait(Answered, 10)
    assert {ended.cause for ended in alice.heard(CallEnded)} == {"unreachable"}
    assert {int(event.call[1:]) % 2 for event in alice.heard(CallEnded)} == {1}


def place(target: str, name: str) -> PlaceCall:
    return PlaceCall(phone="alice", target=target, call=name, dialled="peer")


def test_a_host_that_does_not_resolve(herd: SmallHerd) -> None:
    alice, bob = herd.fork("alice", media="none"), herd.fork("bob", **ANSWERS)
    refused = alice.run(place("sip:x@no-such-host.invalid", "c1"))
    assert getattr(refused, "reason", "") == "unresolved"
    assert 'host "no-such-host.invalid" does not resolve' in getattr(refused, "message", "")
    call(alice, bob.uri.replace("127.0.0.1", "localhost"), "c2")
    alice.wait(Answered)


def test_oversized_and_empty_datagrams(herd: SmallHerd) -> None:
    bob = herd.fork("bob", **ANSWERS)
    with sip_socket() as stranger:
        for data in (b"", b"x" * 65507, os.urandom(1000)):
            stranger.sendto(data, ("127.0.0.1", bob.port))
    alice = herd.fork("alice", media="none")
    call(alice, bob.uri)
    alice.wait(Answered)


def test_trace(herd: SmallHerd) -> None:
    alice, bob = herd.fork("alice", media="none", trace=True), herd.fork("bob", **ANSWERS)
    call(alice, bob.uri)
    alice.wait(Answered)
    alice.wait(SipTrace, 4)
    traces = alice.heard(SipTrace)
    assert [(t.direction, t.first_line.split(" sip")[0], t.cseq) for t in traces] == [
        ("out", "INVITE", "1 INVITE"),
        ("in", "SIP/2.0 180 Ringing", "1 INVITE"),
        ("in", "SIP/2.0 200 OK", "1 INVITE"),
        ("out", "ACK", "1 ACK"),
    ]
    assert {t.peer for t in traces} == {("127.0.0.1", bob.port)}
    assert len({t.sip_call_id for t in traces}) == 1


def test_an_idle_phone_sleeps(herd: SmallHerd) -> None:
    """Its threads are not switched to, however long nobody wants anything of it."""
    alice, bob = up(herd)
    alice.run(HangUpCall(call="c1"))
    bob.wait(Counters)
    alice.wait(Counters)

    def switches() -> int:
        total = 0
        for task in Path(f"/proc/{bob.pid}/task").iterdir():
            text = (task / "status").read_text()
            total += sum(int(line.split()[1]) for line in text.splitlines() if "_ctxt_" in line)
        return total

    # The transactions' own timers (K, L: 5 and 32 s) come later than this looks.
    for _ in range(5):
        quiet = switches()
        herd.listen(1.0)
        if switches() == quiet:
            return
    pytest.fail("it is never quiet for a second")


# What a phone has


def test_descriptors_of_the_first_and_of_a_later_phone(herd: SmallHerd) -> None:
    phones = [herd.fork(f"p{number}") for number in range(30)]
    first, last = descriptors(phones[0].pid), descriptors(phones[-1].pid)
    assert sorted(kind(target) for target in first) == sorted(kind(target) for target in last)
    # Its SIP sockets, UDP and TCP, and its ZeroMQ connection.
    assert sum(target.startswith("socket:") for target in last) == 3
    for sock in (phones[-1].sip, phones[-1].tcp):
        assert f"socket:[{os.fstat(sock.fileno()).st_ino}]" in last
    for other in phones[:-1]:
        for sock in (other.sip, other.tcp):
            assert f"socket:[{os.fstat(sock.fileno()).st_ino}]" not in last


def kind(target: str) -> str:
    return target.split("[")[0]


def test_the_nursery_keeps_one_descriptor_for_each_phone(herd: SmallHerd) -> None:
    herd.fork("p0")
    before = herd.nursery_descriptors()
    phones = [herd.fork(f"p{number}") for number in range(1, 31)]
    assert herd.nursery_descriptors() == before + 30
    for phone in phones:
        os.kill(phone.pid, signal.SIGKILL)
    for phone in phones:
        herd.death(phone)
    herd.until(
        lambda: len(descriptors(herd.nursery.pid)) == before or None, "the descriptors closed"
    )


def test_a_phone_is_a_session_of_its_own(herd: SmallHerd) -> None:
    alice = herd.fork("a-name-of-more-than-fifteen")
    stat = Path(f"/proc/{alice.pid}/stat").read_text()
    assert stat[stat.index("(") :].startswith("(a-name-of-more-)")
    assert os.getsid(alice.pid) == os.getpgid(alice.pid) == alice.pid
    assert os.getsid(herd.nursery.pid) == herd.nursery.pid
    os.kill(alice.pid, signal.SIGINT)  # Ctrl-C is for the supervisor
    os.kill(herd.nursery.pid, signal.SIGINT)
    alice.send(Drain())
    alice.wait(Drained)


SHOWS_ITS_ENVIRONMENT = """
import os, runpy
from sipherd.worker.loop import Worker
os.environ.update({"NOTIFY_SOCKET": "/x", "WATCHDOG_PID": "1", "WATCHDOG_USEC": "1"})
def run(self):
    print([name for name in os.environ if name.startswith(("NOTIFY_", "WATCHDOG_"))])
    return 0
Worker.run = run
runpy.run_module("sipherd.worker.nursery", run_name="__main__", alter_sys=True)
"""


def test_no_phone_speaks_for_the_service(runtime_dir: Path) -> None:
    with SmallHerd(runtime_dir, [sys.executable, "-c", SHOWS_ITS_ENVIRONMENT]) as herd:
        alice = herd.fork("alice", welcome=False)
        herd.death(alice)
        assert alice.printed() == "[]\n"


# Deaths


def test_a_crash_is_told_with_its_signal(herd: SmallHerd) -> None:
    alice = herd.fork("alice")
    os.kill(alice.pid, signal.SIGSEGV)
    died = herd.death(alice)
    assert (died.exit_code, died.signal) == (None, signal.SIGSEGV)
    assert alice.is_gone()
    assert "Segmentation fault" in alice.printed()  # faulthandler


def test_an_exit_is_told_with_its_code(herd: SmallHerd) -> None:
    alice = herd.fork("alice", welcome=False)
    alice.wait(Hello)
    alice.send(Exit(why="nobody awaits this process"))
    died = herd.death(alice)
    assert (died.exit_code, died.signal) == (0, None)


def test_a_phone_that_cannot_begin_says_why(herd: SmallHerd, runtime_dir: Path) -> None:
    alice = SmallPhone(herd, PhoneSpec(name="alice"), 1)
    herd.phones["alice", 1] = alice
    herd.ask(alice, endpoint="nonsense")
    died = herd.death(alice)
    assert (died.exit_code, died.signal) == (1, None)
    assert "ZMQError" in alice.printed()


LEAVES_A_CHILD = """
import os, runpy, subprocess
from sipherd.worker.loop import Worker
def run(self):
    print(subprocess.Popen(["sleep", "60"]).pid)
    return 3
Worker.run = run
runpy.run_module("sipherd.worker.nursery", run_name="__main__", alter_sys=True)
"""


def test_the_process_group_of_a_dead_phone_goes_with_it(runtime_dir: Path) -> None:
    with SmallHerd(runtime_dir, [sys.executable, "-c", LEAVES_A_CHILD]) as herd:
        alice = herd.fork("alice", welcome=False)
        assert herd.death(alice).exit_code == 3
        sleeper = int(alice.printed())
        herd.until(lambda: not is_alive(sleeper) or None, "the end of what it had started")


def test_sigterm_hangs_up_and_leaves(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    os.kill(alice.pid, signal.SIGTERM)
    assert alice.wait(Drained).unanswered_byes == ("c1",)  # its answer was not waited for
    assert bob.wait(CallEnded).by == "remote"
    alice.send(Exit(why="stopped"))
    assert alice.is_gone(5)
    assert herd.death(alice).exit_code == 0


def test_sigterm_without_anybody_who_says_exit(herd: SmallHerd) -> None:
    alice = herd.fork("alice")
    os.kill(alice.pid, signal.SIGTERM)
    died = herd.death(alice)
    assert (died.exit_code, died.signal) == (0, None)


def test_sigterm_before_the_welcome(herd: SmallHerd) -> None:
    alice = herd.fork("alice", welcome=False)
    alice.wait(Hello)
    os.kill(alice.pid, signal.SIGTERM)
    assert herd.death(alice).exit_code == 0


def test_drain_waits_for_the_answer(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    alice.send(Drain())
    assert alice.wait(Drained).unanswered_byes == ()
    assert alice.heard(CallEnded)[0].cause == "stopped"
    assert bob.wait(CallEnded).by == "remote"
    alice.send(Exit(why="stopped"))
    assert herd.death(alice).exit_code == 0


def test_a_new_incarnation_reads_what_came_before_it(herd: SmallHerd) -> None:
    """The socket is the supervisor's: an INVITE to a dead phone waits in the kernel."""
    bob = herd.fork("bob", **ANSWERS)
    os.kill(bob.pid, signal.SIGKILL)
    herd.death(bob)
    alice = herd.fork("alice", media="none")
    call(alice, bob.uri)
    again = SmallPhone(herd, bob.spec, 2)
    again.close_sockets()
    again.sip, again.tcp, again.port = bob.sip.dup(), bob.tcp.dup(), bob.port
    herd.phones["bob", 2] = again
    herd.ask(again)
    herd.until(lambda: again.pid or None, "the second process")
    again.welcome()
    alice.wait(Answered)
    again.wait(IncomingCall)


# The nursery


def test_orderly_exit(herd: SmallHerd) -> None:
    alice = herd.fork("alice")
    alice.send(Exit(why="stopped"))
    herd.death(alice)
    herd.control.close()
    assert herd.nursery.wait(5) == 0
    assert herd.log() == ""


def test_it_waits_for_phones_when_the_control_socket_closes(herd: SmallHerd) -> None:
    alice, stuck = herd.fork("alice"), herd.fork("stuck")
    os.kill(stuck.pid, signal.SIGSTOP)
    herd.control.close()
    assert herd.nursery.wait(5) == 0
    assert not is_alive(alice.pid)
    assert not is_alive(stuck.pid)


def test_the_end_of_the_lifeline(herd: SmallHerd) -> None:
    """As after SIGKILL of the supervisor: BYE, then all gone, also the stuck: within a second on a
    box that is not overloaded."""
    phones = [herd.fork(f"p{number}", media="none") for number in range(8)]
    stuck = herd.fork("stuck")
    os.kill(stuck.pid, signal.SIGSTOP)
    early = SmallPhone(herd, PhoneSpec(name="early"), 1)  # not welcomed
    herd.phones["early", 1] = early
    herd.ask(early)
    early.wait(Hello)
    with sip_socket() as peer:
        peer.settimeout(5)
        call(phones[0], f"sip:x@127.0.0.1:{peer.getsockname()[1]}")
        answer(peer)
        phones[0].wait(Answered)
        herd.cut_lifeline()
        herd.control.close()
        herd.nursery.wait(5)
        assert not [phone for phone in herd.phones.values() if is_alive(phone.pid)]
        seen = []
        while not seen or seen[-1] != b"BYE":
            seen.append(peer.recv(65535).split()[0])
        # An INVITE came again if its answer took longer than T1.
        assert [method for method in seen if method != b"INVITE"] == [b"ACK", b"BYE"]


def answer(peer: socket.socket) -> None:
    """Answer the INVITE that comes with the least that is a 200."""
    invite, source = peer.recvfrom(65535)
    head, _, body = invite.partition(b"\r\n\r\n")
    kept = [
        line + (b";tag=peer" if line.startswith(b"To:") else b"")
        for line in head.split(b"\r\n")
        if line.split(b":")[0] in (b"Via", b"From", b"To", b"Call-ID", b"CSeq")
    ]
    contact = b"Contact: <sip:x@127.0.0.1:%d>" % peer.getsockname()[1]
    lines = [b"SIP/2.0 200 OK", *kept, contact, b"Content-Type: application/sdp"]
    lines.append(b"Content-Length: %d" % len(body))
    peer.sendto(b"\r\n".join(lines) + b"\r\n\r\n" + body, source)


def test_a_phone_outlives_its_nursery(herd: SmallHerd) -> None:
    alice, bob = herd.fork("alice", media="none"), herd.fork("bob", **ANSWERS)
    herd.nursery.kill()
    herd.nursery.wait()
    call(alice, bob.uri)
    alice.wait(Answered)
    herd.cut_lifeline()
    assert alice.is_gone()
    assert bob.is_gone()


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x00" * 70000, pack(Died(phone="a", incarnation=1, exit_code=0, signal=None))],
    ids=["empty", "garbage", "too long", "not a request"],
)
def test_a_bad_packet_is_dropped(herd: SmallHerd, data: bytes) -> None:
    herd.fork("p0")
    before = herd.nursery_descriptors()
    dropped = herd.log().count("dropped a packet")
    with sip_socket() as one, sip_socket() as two:
        herd.send_packet(data, one.fileno(), two.fileno())
        herd.send_packet(data)
    alice = herd.fork("alice")
    assert is_alive(alice.pid)
    assert herd.log().count("dropped a packet") == dropped + 2
    assert herd.nursery_descriptors() == before + 1


@pytest.mark.parametrize("count", [0, 3, 5])
def test_a_request_with_the_wrong_number_of_descriptors(herd: SmallHerd, count: int) -> None:
    herd.fork("p0")
    before = herd.nursery_descriptors()
    request = Fork(phone="alice", incarnation=1, token="t", endpoint=herd.endpoint)
    with contextlib.ExitStack() as stack:
        fds = [stack.enter_context(sip_socket()).fileno() for _ in range(count)]
        herd.send_packet(pack(request), *fds)
    herd.fork("bob")
    assert f"with {count} descriptors" in herd.log()
    assert herd.nursery_descriptors() == before + 1


REFUSES = """
import os, runpy
real, left = getattr(os, {name!r}), [1]
def refuse(*args):
    if left:
        left.pop()
        raise OSError(11, "Resource temporarily unavailable")
    return real(*args)
os.{name} = refuse
runpy.run_module("sipherd.worker.nursery", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("name", ["fork", "pidfd_open"])
def test_a_refusal_of_the_kernel_is_reported(runtime_dir: Path, name: str) -> None:
    """And leaves neither a process nor a descriptor; the next request is served."""
    command = [sys.executable, "-c", REFUSES.format(name=name)]
    with SmallHerd(runtime_dir, command) as herd:
        alice = SmallPhone(herd, PhoneSpec(name="alice"), 1)
        herd.phones["alice", 1] = alice
        herd.ask(alice)
        failed = herd.until(
            lambda: next((a for a in herd.answers if isinstance(a, ForkFailed)), None), "a refusal"
        )
        assert failed.error == "BlockingIOError: [Errno 11] Resource temporarily unavailable"
        assert not children(herd.nursery.pid)
        bob = herd.fork("bob")
        assert children(herd.nursery.pid) == [bob.pid]
        # Its standard streams, its four, the memory for signs of life, and a pidfd.
        assert herd.nursery_descriptors() == 3 + 4 + 1 + 1


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_full_output_pipe_blocks_nobody(herd: SmallHerd) -> None:
    """Nobody reads what the phone prints: it must go on all the same."""
    alice, bob = herd.fork("alice", media="none"), herd.fork("bob", **ANSWERS)
    filler = os.open(f"/proc/{alice.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(filler, b"x" * 4096)
    os.close(filler)
    call(alice, bob.uri)
    alice.wait(Answered)
    os.kill(alice.pid, signal.SIGSEGV)  # even its last words
    assert herd.death(alice).signal == signal.SIGSEGV
