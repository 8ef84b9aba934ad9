"""RFC 3263 and RFC 2782, with nobody asked but a table."""

from __future__ import annotations

import pytest

from sipherd.worker.locate import NameFailure, Service, in_order, locate
from sipherd.worker.stack import Hop


class Table:
    """Names by table; a value that is an exception is raised."""

    def __init__(self, **kinds: dict[str, object]) -> None:
        self._kinds = kinds
        self.asked: list[str] = []

    def _find(self, kind: str, name: str) -> object:
        self.asked.append(f"{kind} {name}")
        found = self._kinds.get(kind, {}).get(name)
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise NameFailure("no such name", known=True)
        return found

    def local(self, name: str) -> list[str]:
        found = self._kinds.get("local", {}).get(name, [])
        assert isinstance(found, list)
        return found

    def addresses(self, name: str) -> tuple[list[str], float]:
        found = self._find("addresses", name)
        assert isinstance(found, list)
        return found, 60.0

    def services(self, name: str) -> tuple[list[Service], float]:
        found = self._find("services", name)
        assert isinstance(found, list)
        return found, 300.0


def first(most: int) -> int:
    return 0


def test_a_port_means_an_address_record() -> None:
    """RFC 3263 4.2: no SRV then."""
    table = Table(addresses={"pbx.lab": ["192.0.2.1", "192.0.2.2"]})
    located = locate(Hop("pbx.lab", 5070), table, first)
    assert located.addresses == (("192.0.2.1", 5070), ("192.0.2.2", 5070))
    assert located.ttl == 60.0
    assert table.asked == ["addresses pbx.lab"]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_without_a_port_services_are_asked_for(transport: str) -> None:
    hop = Hop("pbx.lab", None, transport)  # type: ignore[arg-type]
    services = [Service(20, 0, 5080, "two.lab"), Service(10, 0, 5062, "one.lab")]
    table = Table(
        services={f"_sip._{transport}.pbx.lab": services},
        addresses={"one.lab": ["192.0.2.1", "192.0.2.11"], "two.lab": ["192.0.2.2"]},
    )
    located = locate(hop, table, first)
    assert located.addresses == (("192.0.2.1", 5062), ("192.0.2.11", 5062), ("192.0.2.2", 5080))
    assert located.ttl == 60.0  # of the shortest record used


def test_without_services_the_default_port() -> None:
    table = Table(addresses={"pbx.lab": ["192.0.2.1"]})
    assert locate(Hop("pbx.lab", None), table, first).addresses == (("192.0.2.1", 5060),)


def test_what_the_machine_knows_is_not_asked_for() -> None:
    table = Table(local={"pbx.lab": ["192.0.2.9"], "one.lab": ["192.0.2.8"]})
    assert locate(Hop("pbx.lab", None), table, first).addresses == (("192.0.2.9", 5060),)
    assert table.asked == []
    table = Table(
        local={"one.lab": ["192.0.2.8"]},
        services={"_sip._udp.pbx.lab": [Service(1, 1, 5099, "one.lab")]},
    )
    assert locate(Hop("pbx.lab", None), table, first).addresses == (("192.0.2.8", 5099),)


def test_no_such_service() -> None:
    """RFC 2782: a target of "." says that there decidedly is none."""
    table = Table(
        services={"_sip._tcp.pbx.lab": [Service(0, 0, 0, "")]},
        addresses={"pbx.lab": ["192.0.2.1"]},
    )
    with pytest.raises(NameFailure, match="no SIP by tcp there"):
        locate(Hop("pbx.lab", None, "tcp"), table, first)


def test_a_server_without_address_is_passed_over() -> None:
    services = [Service(1, 0, 5060, "gone.lab"), Service(2, 0, 5060, "two.lab")]
    table = Table(services={"_sip._udp.pbx.lab": services}, addresses={"two.lab": ["192.0.2.2"]})
    assert locate(Hop("pbx.lab", None), table, first).addresses == (("192.0.2.2", 5060),)
    table = Table(services={"_sip._udp.pbx.lab": services})
    with pytest.raises(NameFailure, match="no such name"):
        locate(Hop("pbx.lab", None), table, first)


def test_silence_is_no_answer() -> None:
    """Without one for SRV nobody waits for the same silence again."""
    table = Table(services={"_sip._udp.pbx.lab": NameFailure("no name server answers")})
    with pytest.raises(NameFailure, match="no name server answers"):
        locate(Hop("pbx.lab", None), table, first)
    assert table.asked == ["services _sip._udp.pbx.lab"]


def test_a_hundred_servers_are_too_many() -> None:
    services = [Service(0, 0, 5060, f"s{number}.lab") for number in range(100)]
    table = Table(
        services={"_sip._udp.pbx.lab": services},
        addresses={service.host: ["192.0.2.1"] for service in services},
    )
    assert locate(Hop("pbx.lab", None), table, first).addresses == (("192.0.2.1", 5060),)
    assert len(table.asked) == 9


def test_priority_goes_before_weight() -> None:
    low, high = Service(1, 0, 1, "low"), Service(2, 60000, 1, "high")
    assert list(in_order([high, low], first)) == [low, high]


@pytest.mark.parametrize(
    ("number", "host"), [(0, "zero"), (1, "one"), (10, "one"), (11, "three"), (40, "three")]
)
def test_weights(number: int, host: str) -> None:
    """RFC 2782: a number up to the sum; the first whose running sum reaches it."""
    services = [Service(1, 30, 1, "three"), Service(1, 10, 1, "one"), Service(1, 0, 1, "zero")]
    asked = []

    def random(most: int) -> int:
        asked.append(most)
        return number if len(asked) == 1 else 0

    order = list(in_order(services, random))
    assert asked[0] == 40
    assert order[0].host == host
    assert {service.host for service in order} == {"zero", "one", "three"}
