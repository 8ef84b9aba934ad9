"""A herd and its phones, from the outside."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from .calls import Call, EventStream, IncomingCall, Watch
from .client import END_TIMEOUT, STOP_TIMEOUT, Connection, start_timeout
from .private import start_supervisor
from .protocol.access import why_local_only
from .protocol.behaviour import Behaviour
from .protocol.errors import CommandRefused, SipherdError, TimedOut
from .protocol.events import Fault, PhoneMoved, Registered, RegistrationFailed
from .protocol.herdfile import load_herd_file
from .protocol.messages import (
    AddPhones,
    AwaitIncoming,
    CallInfo,
    CallList,
    ClientRequest,
    GetHerd,
    HangUpCall,
    HerdInfo,
    InjectFault,
    ListCalls,
    ListPhones,
    PhoneInfo,
    PhoneList,
    PlaceCall,
    RegisterPhone,
    RemovePhones,
    ResetPhones,
    RestartPhones,
    Result,
    StartPhones,
    StopHerd,
    StopPhones,
    StopReport,
    StopReports,
    UnregisterPhone,
    Withdraw,
)
from .protocol.paths import ensure_runtime_dir, runtime_dir
from .protocol.spec import HerdPorts, HerdSpec, PhoneSpec, bracketed, split_advertise
from .ways import Remote, remote_from

__all__ = ["Herd", "Phone"]

_NONE: Mapping[str, Behaviour] = {}

PhoneLike = PhoneSpec | str | Mapping[str, Any]


class Herd:
    """Phones of one supervisor.

    `Herd(...)` starts a private supervisor as a child of this process, with free ports and a name
    of its own; `close()`, the end of the `with` block, or the end of this process by whatever
    means stops it.  `Herd.connect(name)` joins a herd that is running already.

    All methods can be called from several threads.

    Args:
        phones: a number makes `phone-1` with number 1001, `phone-2` with 1002 and so on; or a list
            of names, of mappings with the keys of a herd file, or of `PhoneSpec`.
        name: of the herd, unique on this machine; None makes one up.
        ports: ranges; only phones with a `port` of their own take any of these.
        faults: whether `Phone.fault` may do phones harm.

    Raises:
        HerdNotStarted: the supervisor did not come up.
        CommandRefused: a phone can't be created; `reason` and the message say why.
    """

    def __init__(
        self,
        phones: int | Sequence[PhoneLike] = 0,
        *,
        name: str | None = None,
        ports: HerdPorts | None = None,
        faults: bool = False,
        runtime_dir: Path | None = None,
    ) -> None:
        if isinstance(phones, int):
            phones = [{"name": f"phone-{n}", "number": f"{1000 + n}"} for n in range(1, phones + 1)]
        specs = tuple(_free_port(phone) for phone in phones)
        spec = HerdSpec(
            herd=name or f"private-{os.getpid()}-{secrets.token_hex(3)}",
            ports=ports or HerdPorts(),
            faults="allowed" if faults else "refused",
        )
        directory = _directory(runtime_dir)
        ensure_runtime_dir(directory)
        supervisor = start_supervisor(spec, directory)
        try:
            self._join(spec.herd, directory, supervisor)
        except BaseException:
            supervisor.kill()
            supervisor.wait()
            raise
        if specs:
            try:
                self._create(specs)
            except BaseException:
                self.close()
                raise

    @classmethod
    def connect(
        cls,
        name: str | None = None,
        runtime_dir: Path | None = None,
        *,
        endpoint: str | None = None,
        key: Path | str | None = None,
    ) -> Herd:
        """Join a running herd.  Closing this end does not stop it.

        Args:
            name: of the herd; `default` if none is given.
            runtime_dir: where its sockets are.
            endpoint: `tcp://HOST:PORT` of a herd of another machine; None takes SIPHERD_CONNECT;
                if there is none, the herd is one of this machine.
            key: file of this client's key for that; None takes SIPHERD_KEY.

        Raises:
            HerdNotRunning: there is none, or it has another name.
            KeysError: the key can't be used.
            KeyRefused: the herd does not let this key in.
            ValueError: `endpoint` has another form.
        """
        remote = remote_from(endpoint, key, os.environ, herd=name)
        herd = cls.__new__(cls)
        herd._join(name or "default", remote or _directory(runtime_dir))
        return herd

    @classmethod
    def from_file(cls, path: str | Path, runtime_dir: Path | None = None) -> Herd:
        """A private herd with the phones of a herd file, but a name of its own and free ports.

        Raises:
            HerdFileError: the file can't be used.
        """
        spec = load_herd_file(path, os.environ)
        phones = [msgspec.structs.replace(phone, port=0) for phone in spec.phones]
        return cls(phones, runtime_dir=runtime_dir)

    def _join(
        self,
        name: str,
        where: Path | Remote,
        supervisor: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._where = where
        self._watch = Watch()
        self._handed_over: deque[IncomingCall] = deque()
        self._closing = threading.Lock()
        # A child that was forked from here has the object, but neither thread nor connection.
        self._process = os.getpid()
        self._connection = Connection(name, where, self._watch)
        self._name = self._connection.herd
        try:
            self._watch.start(self._connection)
        except BaseException:
            self._connection.close()
            raise
        atexit.register(self.close)

    def __repr__(self) -> str:
        return f"<Herd {self._name}, supervisor {self.pid}>"

    @property
    def name(self) -> str:
        """The herd's name."""
        return self._name

    @property
    def pid(self) -> int:
        """Process id of the supervisor, on its machine."""
        return self._connection.supervisor_pid

    # -- phones ----------------------------------------------------------------------------------

    def phones(self) -> list[PhoneInfo]:
        """All phones as they are now, in the order of their creation."""
        return list(self._list())

    def __iter__(self) -> Iterator[Phone]:
        return iter([Phone(self, info) for info in self._list()])

    def __len__(self) -> int:
        return len(self._list())

    def __getitem__(self, name_or_number: str) -> Phone:
        """The phone of this name or number; raises as `phone`."""
        (info,) = self._list(name_or_number)
        return Phone(self, info)

    def phone(self, name_or_number: str) -> Phone:
        """The same as `herd[name_or_number]`.

        Raises:
            PhoneNotFound: no phone has it; `near` lists similar ones.
        """
        return self[name_or_number]

    def add(
        self, name: str, *, behaviour: Callable[[Phone], object] | None = None, **spec: Any
    ) -> Phone:
        """Create and start a phone; `spec` has the keys of a herd file.  Returns once it serves.

        Args:
            name: unique in the herd.
            behaviour: a function, closure or lambda that runs in the phone's process, in a thread
                of its own, with the phone as its argument. Each process of the phone runs it from
                the beginning. What it raises ends the process, and the restart policy decides what
                follows; when it returns, the phone goes on without it. Calls that it placed or
                took end with it, unless they are detached.
            spec: the keys of a herd file.

        Raises:
            CommandRefused: it can't be; nothing was changed.
            BehaviourError: `behaviour` can't be handed over; nothing was changed.
            ValueError: `spec` is wrong in itself.
        """
        given = {"name": name} | spec
        wanted = _as_spec(given) if self._supervisor is None else _free_port(given)
        behaviours = {}
        if behaviour is not None:
            behaviours[wanted.name] = self._packed(behaviour, wanted.name)
        (info,) = self._create((wanted,), behaviours)
        return Phone(self, info)

    def _packed(self, behaviour: Callable[[Phone], object], phone: str) -> Behaviour:
        if isinstance(self._where, Remote):
            refused = AddPhones(specs=(), behaviours={phone: Behaviour(name="", code=b"")})
            raise CommandRefused("local_only", why_local_only(refused))
        from .behaviours import pack  # dill takes a while, and few need it

        return pack(behaviour, self, phone)

    def remove(self, phone: Phone | str) -> StopReport:
        """Stop a phone, forget it and free its port."""
        name = phone.name if isinstance(phone, Phone) else phone
        result = self._request(RemovePhones(which=(name,)), STOP_TIMEOUT)
        assert isinstance(result, StopReports)
        return result.reports[0]

    # -- the herd --------------------------------------------------------------------------------

    def calls(self) -> list[CallInfo]:
        """All calls that are not over, oldest first."""
        result = self._request(ListCalls())
        assert isinstance(result, CallList)
        return list(result.calls)

    def info(self) -> HerdInfo:
        """The herd as a whole."""
        result = self._request(GetHerd())
        assert isinstance(result, HerdInfo)
        return result

    def counters(self) -> dict[str, float]:
        """Running totals: ports allocated, allocation failures, phones started, restarts …"""
        return self.info().counters

    def events(self, timeout: float | None = None, *, after: int | None = None) -> EventStream:
        """All events of the herd from now on; the iteration ends after `timeout` quiet seconds.

        `after` begins behind the event of that number, as far back as the supervisor remembers.
        """
        return self._watch.stream(timeout, after)

    def stop(self, *, now: bool = False) -> tuple[StopReport, ...]:
        """Stop every phone and the supervisor; `now` does not wait for answers to the BYEs.

        Returns how each phone went, once all processes are gone and the ports can be bound.
        """
        result = self._request(StopHerd(now=now), STOP_TIMEOUT, awaited="the end of the herd")
        assert isinstance(result, StopReports)
        if not self._connection.wait_gone(STOP_TIMEOUT):
            raise TimedOut(f"the end of the supervisor (pid {self.pid})", STOP_TIMEOUT)
        if self._supervisor:
            self._supervisor.wait()
        self._connection.close()
        return result.reports

    def close(self) -> None:
        """Leave the herd; a private one is stopped.  Can be called more than once."""
        if self._process != os.getpid():
            return
        with self._closing:
            atexit.unregister(self.close)
            try:
                if self._supervisor and self._supervisor.poll() is None:
                    self._stop_or_kill(self._supervisor)
            finally:
                self._connection.close()

    def _stop_or_kill(self, supervisor: subprocess.Popen[bytes]) -> None:
        try:
            self.stop()
        except BaseException as error:
            # Its phones notice, and say goodbye by themselves.
            supervisor.kill()
            supervisor.wait()
            if not isinstance(error, SipherdError):  # Ctrl-C
                raise

    def __enter__(self) -> Herd:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- for phones ------------------------------------------------------------------------------

    def _request(
        self, body: ClientRequest, timeout: float | None = None, awaited: str = ""
    ) -> Result:
        if timeout is None:
            return self._connection.request(body, awaited=awaited)
        return self._connection.request(body, timeout, awaited=awaited)

    def _list(self, *which: str) -> tuple[PhoneInfo, ...]:
        return _phones(self._request(ListPhones(which=which)))

    def _create(
        self, specs: tuple[PhoneSpec, ...], behaviours: Mapping[str, Behaviour] = _NONE
    ) -> tuple[PhoneInfo, ...]:
        command = AddPhones(specs=specs, behaviours=dict(behaviours))
        return _phones(self._request(command, start_timeout(len(specs))))

    def _place(self, command: PlaceCall) -> Call:
        if command.detached:
            self._watch.everything()
        placed: list[Call] = []

        def on_result(result: Result) -> None:
            assert isinstance(result, CallInfo)
            placed.append(Call(self._watch, result))
            self._watch.add(placed[0])

        def on_orphan(result: Result) -> None:
            assert isinstance(result, CallInfo)
            with contextlib.suppress(SipherdError):
                self._connection.submit(HangUpCall(call=result.call))

        self._connection.request(command, on_result=on_result, on_orphan=on_orphan)
        return placed[0]

    def _incoming(self, phone: str, automatic: bool, timeout: float | None) -> IncomingCall:
        for call in self._handed_over:
            if call.info.phone == phone:
                self._handed_over.remove(call)
                return call
        taken: list[IncomingCall] = []

        def on_result(result: Result) -> None:
            assert isinstance(result, CallInfo)
            taken.append(IncomingCall(self._watch, result))
            self._watch.add(taken[0])

        def on_orphan(result: Result) -> None:
            # It is ours, and nobody waits: the next who does gets it.
            self._handed_over.append(taken[0])

        request = self._connection.submit(
            AwaitIncoming(which=(phone,)),
            timeout,
            awaited=f"an incoming call at {phone}",
            on_result=on_result,
            on_orphan=on_orphan,
        )
        try:
            self._connection.wait(request)
        except BaseException:
            if request.future.cancelled():
                with contextlib.suppress(SipherdError):
                    self._connection.submit(Withdraw(request=request.id))
            raise
        if automatic:
            # It stays the phone's own until it is answered here, and its events are for observers.
            self._watch.everything()
        return taken[0]


class Phone:
    """One phone of a herd.  Cheap: it holds a name, and asks the supervisor for the rest."""

    def __init__(self, herd: Herd, info: PhoneInfo) -> None:
        self._herd = herd
        self._name = info.name
        self._number = info.number
        self._port = info.port
        self._automatic = info.spec.on_incoming is not None
        advertised = info.spec.advertise
        host, port = split_advertise(advertised) if advertised else (info.address, None)
        self._uri = f"sip:{info.number}@{bracketed(host)}:{port or info.port}"

    def __repr__(self) -> str:
        return f"<Phone {self._name} {self._uri}>"

    @property
    def name(self) -> str:
        """Its name, unique in the herd."""
        return self._name

    @property
    def number(self) -> str:
        """User part of its SIP address, unique in the herd."""
        return self._number

    @property
    def port(self) -> int:
        """The SIP port, the same for its whole life."""
        return self._port

    @property
    def uri(self) -> str:
        """`sip:NUMBER@HOST:PORT`, to be called by others."""
        return self._uri

    def info(self) -> PhoneInfo:
        """State, activity, process and counters as they are now."""
        (info,) = self._herd._list(self._name)
        return info

    def call(
        self,
        target: Phone | str,
        *,
        ring_timeout: float | None = None,
        detached: bool = False,
        direct: bool = False,
    ) -> Call:
        """Place a call to a phone, a name or number of the herd, or a SIP URI.

        Returns once the INVITE is under way. A phone that registers, or has a proxy, dials names
        and numbers by way of it, those of others as well.

        Args:
            target: whom to call.
            ring_timeout: seconds after which the caller gives up; None takes the phone's own.
            detached: the call outlives this process.
            direct: a name or number of the herd goes straight to its phone all the same.

        Raises:
            PhoneNotFound: no phone of the herd is called so.
            CommandRefused: it can't be placed; `reason` is `phone_not_ready`, `bad_uri` …
        """
        if isinstance(target, Phone):
            target = target._name if target._herd is self._herd else target._uri
        return self._herd._place(
            PlaceCall(
                phone=self._name,
                target=target,
                ring_timeout=ring_timeout,
                detached=detached,
                direct=direct,
            )
        )

    def incoming(self, timeout: float | None = None) -> IncomingCall:
        """Wait for the next incoming call of this phone and take it.

        A call goes to one waiter only, the one that has waited longest. A phone with `on_incoming`
        deals with the call by itself all the same, unless this side is faster.

        Raises:
            TimedOut: none came within `timeout` seconds.
        """
        return self._herd._incoming(self._name, self._automatic, timeout)

    def register(self, timeout: float = END_TIMEOUT) -> None:
        """Register now, whatever its retry timer says; returns once the registrar has accepted.

        Raises:
            CommandRefused: it did not; the message has its code. Or the phone has no registrar.
        """
        awaited = f"the registration of {self._name}"
        self._herd._request(RegisterPhone(phone=self._name), timeout, awaited=awaited)

    def unregister(self, timeout: float = END_TIMEOUT) -> None:
        """Have the registrar forget it, until `register`.  Raises as `register`."""
        awaited = f"the end of {self._name}'s registration"
        self._herd._request(UnregisterPhone(phone=self._name), timeout, awaited=awaited)

    def wait_registered(self, timeout: float | None = None) -> PhoneInfo:
        """Wait until it is registered.

        Raises:
            CommandRefused: its registrar refused it, and it does not try again by itself; or it
                has no registrar.
            TimedOut: it was not within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        # The stream first: what happens behind the question is in it.
        with self._herd.events() as events:
            while (info := self.info()).registration != "registered":
                if info.spec.register is None:
                    raise CommandRefused("no_registrar", f"phone {self._name} has no registrar")
                if info.registration == "failed" and info.registration_retry is None:
                    why = f"phone {self._name} is not registered: {info.registration_why}"
                    raise CommandRefused("not_registered", why)
                while True:
                    left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                    event = events._next(left)
                    if event is None:
                        raise TimedOut(f"the registration of {self._name}", timeout or 0.0)
                    news = isinstance(event.body, Registered | RegistrationFailed | PhoneMoved)
                    if event.phone == self._name and news:
                        break
        return info

    def fault(self, fault: Fault, *, code: int = 1) -> None:
        """Do the phone harm, in a herd with `faults` allowed; returns once it is under way.

        Args:
            fault: `kill` and `stop` send SIGKILL and SIGSTOP; `hang` keeps its process busy for
                ever; `exit` ends it with `code`, without a BYE; `drop_registration` has the
                registrar forget it, which the phone finds out by itself; `vanish` kills it and
                leaves its calls, so that the far ends see it disappear.
            code: of `exit`, 0 to 255.

        Raises:
            CommandRefused: `faults_not_allowed`, or the phone is not ready for it.
        """
        self._herd._request(InjectFault(phone=self._name, fault=fault, code=code))

    def start(self) -> PhoneInfo:
        """Start it again, on its old port, after a stop or a failure."""
        return self._become(StartPhones, start_timeout(1))

    def stop(self, *, now: bool = False) -> StopReport:
        """End its calls and its process; `now` does not wait for answers."""
        result = self._herd._request(StopPhones(which=(self._name,), now=now), STOP_TIMEOUT)
        assert isinstance(result, StopReports)
        return result.reports[0]

    def restart(self) -> PhoneInfo:
        """Stop and start; also what brings back a phone that failed."""
        return self._become(RestartPhones, STOP_TIMEOUT + start_timeout(1))

    def reset(self) -> PhoneInfo:
        """Make a failed phone a stopped one, or start one in back-off; forget its failures."""
        return self._become(ResetPhones, start_timeout(1))

    def _become(
        self,
        command: Callable[..., StartPhones | RestartPhones | ResetPhones],
        timeout: float,
    ) -> PhoneInfo:
        (info,) = _phones(self._herd._request(command(which=(self._name,)), timeout))
        return info


def _directory(explicit: Path | None) -> Path:
    return runtime_dir(explicit, os.environ)


def _phones(result: Result) -> tuple[PhoneInfo, ...]:
    assert isinstance(result, PhoneList)
    return result.phones


def _as_spec(phone: PhoneLike) -> PhoneSpec:
    if isinstance(phone, PhoneSpec):
        return phone
    given: dict[str, Any] = {"name": phone} if isinstance(phone, str) else dict(phone)
    if isinstance(given.get("restart"), str):  # the short form of a herd file
        given["restart"] = {"policy": given["restart"]}
    return msgspec.convert(given, PhoneSpec)


def _free_port(phone: PhoneLike) -> PhoneSpec:
    """The phone with any free port instead of one of the herd's range: no two herds share it."""
    spec = _as_spec(phone)
    return msgspec.structs.replace(spec, port=0) if spec.port is None else spec
