"""A simulated day of one phone at a registrar: lossy, forgetful, and at times not there."""

from collections.abc import Callable

import pytest
from fakeregistrar import Day, FakeRegistrar

from sipherd.worker.stack import Registered, Registrar, RegistrationFailed

DAY = 86_400.0
CAP = 300.0 + 32.0
"""Seconds within which a registrar that is back has the phone again: the longest wait between two
attempts, and one attempt that went out too early."""


class Watch:
    """Notes every span in which the registrar did not have the phone, and what it costs us."""

    def __init__(self, day: Day) -> None:
        self.gaps: list[tuple[float, float]] = []
        self.timers: list[int] = []
        self._day = day
        self._until = 0.0
        day.watch = self.look

    def look(self) -> None:
        day = self._day
        until = max(day.pbx.bindings.values(), default=0.0)
        if until != self._until:
            if self._until and day.now > self._until:
                self.gaps.append((self._until, day.now))
            self._until = until
        self.timers.append(day.engine.ctx.timers.allocated)

    def assert_flat(self) -> None:
        """Nothing grows over the day; afterwards only the refresh is left."""
        half = len(self.timers) // 2
        assert max(self.timers[half:]) <= max(self.timers[:half]) + 4
        self._day.run(60)
        engine = self._day.engine
        assert len(engine.ctx.timers) <= 8
        assert len(engine.transactions) <= 4
        assert sum(map(len, engine.requests._spaces.values())) <= 1
        assert engine.counters["engine_error"] == 0


def day_of(expires: int, seed: int, **registrar: object) -> Day:
    ours = Registrar(server="192.0.2.8", aor="sip:1001@lab.test", expires=expires)
    day = Day(seed=seed, registrar=ours)
    day.pbx = FakeRegistrar(lambda: day.now, **registrar)
    return day


def lossy(day: Day, share: float) -> Callable[[bytes], bool]:
    return lambda data: day.random.random() < share


@pytest.mark.parametrize("expires", [30, 3600])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_day_on_a_lossy_wire(expires: int, seed: int) -> None:
    day = day_of(expires, seed)
    watch = Watch(day)
    day.loses = lossy(day, 0.1)
    day.delay = lambda: 0.001 + 0.3 * day.random.random()
    day.take(day.engine.register(0, 0.0))
    day.run(DAY)
    assert watch.gaps == []
    assert day.pbx.is_bound()
    assert day.events(RegistrationFailed) == []
    # As many as refreshes are due, and no more: lost ones are copies, stale nonces come on top.
    least, most = {30: (DAY / 15, DAY / 13), 3600: (DAY / 3240, DAY / 2700 + 1)}[expires]
    assert least <= day.slots <= most
    assert len(day.events(Registered)) == day.slots
    watch.assert_flat()


def test_a_day_with_a_nonce_for_each_request_and_an_expiry_of_the_registrars_own() -> None:
    day = day_of(10, 4, nonce_life=0.5, shortest=60, longest=60)
    watch = Watch(day)
    day.take(day.engine.register(0, 0.0))
    day.run(DAY)
    assert watch.gaps == []
    assert day.events(RegistrationFailed) == []
    codes = day.pbx.codes
    assert codes.count(423) == 1
    assert codes.count(401) == pytest.approx(codes.count(200), abs=2)
    assert DAY / 30 <= codes.count(200) <= DAY / 26
    watch.assert_flat()


@pytest.mark.parametrize("expires", [30, 3600])
@pytest.mark.parametrize("outage", [60.0, 3600.0])
def test_a_day_with_outages(expires: int, outage: float) -> None:
    day = day_of(expires, 5)
    watch = Watch(day)
    begins = [6 * 3600.0, 12 * 3600.0 + 7, 18 * 3600.0 + 1000]

    def is_down() -> bool:
        return any(begin <= day.now < begin + outage for begin in begins)

    lossy_too = lossy(day, 0.05)
    day.loses = lambda data: is_down() or lossy_too(data)
    day.take(day.engine.register(0, 0.0))
    day.run(DAY)
    for start, end in watch.gaps:
        # Each gap belongs to an outage, and ends soon after it.
        (begin,) = [b for b in begins if b <= start < b + outage]
        assert end <= begin + outage + CAP
    assert len(watch.gaps) == (0 if outage < expires else len(begins))
    assert day.pbx.is_bound()
    # While it is out: at most one attempt in each half minute, then in each 150 s.
    attempts = outage / 150 + 8
    assert len(day.events(RegistrationFailed)) <= len(begins) * attempts
    watch.assert_flat()


def test_a_registrar_that_lost_its_memory_has_the_phone_again_with_the_next_refresh() -> None:
    day = day_of(60, 7)
    day.take(day.engine.register(0, 0.0))
    day.run(1000)
    day.pbx.bindings.clear()
    day.pbx._nonces.clear()
    day.run(31)
    assert day.pbx.is_bound()
    assert day.events(RegistrationFailed) == []


def test_slots_that_come_late_do_not_let_it_lapse() -> None:
    """500 phones at 50 REGISTER a second wait 10 s for theirs."""
    day = day_of(30, 8)
    watch = Watch(day)
    day.slot_delay = 10.0
    day.take(day.engine.register(0, 0.0))
    day.run(DAY / 4)
    assert watch.gaps == []
    watch.assert_flat()


def test_a_wrong_password_for_a_day_is_one_event() -> None:
    day = day_of(30, 9, password="another")
    day.take(day.engine.register(0, 0.0))
    day.run(DAY)
    assert [event.cause for event in day.events(RegistrationFailed)] == ["credentials"]
    assert day.pbx.codes == [401, 401]
