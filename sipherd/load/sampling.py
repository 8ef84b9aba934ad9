"""Samples of a run: how this box and the processes of the herd are doing while it goes on.

It is the evidence for the verdict: whether the box was the limit, whether a phone grew, whether
anything is left after the drain.  The kernel is asked for what it knows better than we do
(``kernel``), the supervisor for the rest.  Everything here blocks for a little while, so a run has
a thread for it (``Sampling``).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from ..client import Connection
from ..protocol.errors import SipherdError, TimedOut
from ..protocol.messages import GetHerd, HerdInfo, ListPhones, PhoneInfo, PhoneList
from ..protocol.states import PhoneState
from .kernel import Cpu, Drops, UdpSocket, offspring, open_sockets, process_name, udp_sockets, usage
from .records import BoxSample, Leftovers, PhoneSample

__all__ = ["PHONES_EVERY", "SAMPLES_EVERY", "Sampler", "Sampling"]

SAMPLES_EVERY = 1.0
"""Seconds between two samples of the box."""
PHONES_EVERY = 5.0
"""Seconds between two samples of the same phone."""


_LOOK_AGAIN = 0.1
"""Seconds between two looks at what is left."""
_HAS_PROCESS = (PhoneState.STARTING, PhoneState.READY, PhoneState.DRAINING)


class Sampler:
    """Looks at the herd behind a connection; one thread at a time.

    What happened before it was made is not counted.

    Args:
        connection: to a herd of this machine.
        phones: names of those that take part in the run; none given: all.

    Raises:
        HerdClosed, SupervisorDied: the connection is over.
        TimedOut: the supervisor does not answer.
    """

    def __init__(self, connection: Connection, phones: Collection[str] = ()) -> None:
        self._connection = connection
        self._names = frozenset(phones)
        self._phones: tuple[PhoneInfo, ...] = ()
        self._turn = 0
        """Where in them the next sample of phones begins."""
        herd = self._herd()
        self._heard_until = herd.clock
        self._counted = herd.counters
        self._cpu = Cpu()
        self._drops = Drops(herd.pid, self._look_at_phones())

    def sample(self, t: float, loop_lag: float = 0.0) -> BoxSample:
        """How the box was doing since the last sample.

        Args:
            t: now, in seconds since the run's start.
            loop_lag: the longest that the runner's loop woke up after its time since then.

        """
        herd = self._herd()
        # Each figure is told once; none at all since the last time is one as before.
        lags = [lag for lag in herd.lags if lag.t > self._heard_until] or herd.lags[-1:]
        self._heard_until = max((lag.t for lag in lags), default=self._heard_until)
        before, self._counted = self._counted, herd.counters
        with_process = sum(herd.states.get(state.value, 0) for state in _HAS_PROCESS)
        return BoxSample(
            t=t,
            loop_lag=loop_lag,
            phone_lag=max((lag.phones for lag in lags), default=0.0),
            supervisor_lag=max((lag.supervisor for lag in lags), default=0.0),
            cpu=self._cpu.busy(),
            socket_drops=self._drops.since_last() + _more("rtp_datagrams_lost", before, herd),
            rtp_exhausted=_more("rtp_exhausted", before, herd),
            calls=herd.calls,
            processes=with_process + 1 + bool(herd.nursery_pid),
        )

    def phones(self, t: float) -> list[PhoneSample]:
        """What phones take now: those whose turn it is, so that the effort is spread over time.

        Each comes every PHONES_EVERY seconds if this is called every SAMPLES_EVERY.
        """
        if self._turn >= len(self._phones):
            self._turn = 0
            self._drops.watch(self._look_at_phones())
        share = math.ceil(len(self._phones) * SAMPLES_EVERY / PHONES_EVERY)
        turn = self._phones[self._turn : self._turn + share]
        self._turn += len(turn)
        return [
            PhoneSample(
                t=t,
                phone=phone.name,
                incarnation=phone.incarnation,
                memory=taken.memory,
                fds=taken.fds,
                threads=taken.threads,
            )
            for phone in turn
            if phone.pid and (taken := usage(phone.pid)) is not None
        ]

    def leftovers(self, patience: float = 5.0) -> Leftovers:
        """What is there now that the drain is over.

        What is left is looked at again for at most `patience` seconds: it may be about to go.
        """
        deadline = time.monotonic() + patience
        while True:
            found = self._left()
            if found == Leftovers() or time.monotonic() >= deadline:
                return found
            time.sleep(_LOOK_AGAIN)

    # Inside

    def _left(self) -> Leftovers:
        herd = self._herd()
        self._look_at_phones()
        every = self._list()
        sockets = {socket.inode: socket for socket in udp_sockets(herd.pid)}
        return Leftovers(
            calls=sum(len(phone.calls) for phone in self._phones),
            dialogs=sum(phone.dialogs for phone in self._phones),
            rtp_ports=sum(_rtp_ports(phone, sockets) for phone in self._phones),
            processes=_strays(herd, every),
        )

    def _look_at_phones(self) -> list[tuple[str, int]]:
        """Where those of the run are reached."""
        self._phones = tuple(
            phone for phone in self._list() if not self._names or phone.name in self._names
        )
        return [(phone.address, phone.port) for phone in self._phones]

    def _list(self) -> tuple[PhoneInfo, ...]:
        found = self._connection.request(ListPhones())
        assert isinstance(found, PhoneList)
        return found.phones

    def _herd(self) -> HerdInfo:
        info = self._connection.request(GetHerd())
        assert isinstance(info, HerdInfo)
        return info


def _more(counter: str, before: Mapping[str, float], herd: HerdInfo) -> int:
    return int(herd.counters.get(counter, 0) - before.get(counter, 0))


def _rtp_ports(phone: PhoneInfo, sockets: Mapping[int, UdpSocket]) -> int:
    """RTP ports that this phone has open for calls, as the kernel knows it."""
    if not phone.pid:
        return 0
    held = [sockets[inode] for inode in open_sockets(phone.pid) if inode in sockets]
    rtp = sum((sock.host, sock.port) != (phone.address, phone.port) for sock in held)
    # With `media: none` one pair stands for those of all calls, and stays.
    return rtp // 2 - (rtp > 0 and phone.spec.media == "none")


def _strays(herd: HerdInfo, phones: Iterable[PhoneInfo]) -> int:
    """Processes below the supervisor that are no phone's, nor of the herd itself."""
    pids = {phone.pid for phone in phones if phone.pid}
    strays: set[int] = set()
    for pid, parent in offspring(herd.pid).items():  # parents come before their children
        known = pid in pids or pid == herd.nursery_pid or _is_guard(pid)
        # Whatever a behaviour has started belongs to its phone.
        if parent in strays or (parent in (herd.pid, herd.nursery_pid) and not known):
            strays.add(pid)
    return len(strays)


def _is_guard(pid: int) -> bool:
    return process_name(pid) == "sipherd-guard"


class Sampling:
    """A thread that takes samples until it is stopped, or the connection is over.

    Args:
        sampler: nobody else may use it between `start` and `stop`.
        began: the run's start on the monotonic clock.
        loop_lag: takes what the runner's loop was late at worst since it was last asked.
        on_sample: gets each sample of the box, in this thread.
        on_phones: gets samples of phones, in this thread.

    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        began: float,
        loop_lag: Callable[[], float],
        on_sample: Callable[[BoxSample], None],
        on_phones: Callable[[list[PhoneSample]], None],
    ) -> None:
        self._sampler = sampler
        self._began = began
        self._loop_lag = loop_lag
        self._on_sample = on_sample
        self._on_phones = on_phones
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sipherd-sampling", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether samples are being taken."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Take the first sample one interval from now."""
        self._thread.start()

    def stop(self) -> None:
        """No sample is taken after this.  Can be called more than once, and without `start`."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        due = time.monotonic() + SAMPLES_EVERY
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            # One that is late moves those that follow: two at once would tell nothing.
            due = max(due, time.monotonic()) + SAMPLES_EVERY
            try:
                self._on_sample(self._sampler.sample(self._time(), self._loop_lag()))
                self._on_phones(self._sampler.phones(self._time()))
            except TimedOut:
                continue  # how long the supervisor was held up, it will tell itself
            except SipherdError:
                return  # the runner has been told, too

    def _time(self) -> float:
        return time.monotonic() - self._began
