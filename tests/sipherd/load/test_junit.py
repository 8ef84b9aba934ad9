"""A verdict as JUnit XML."""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec

from sipherd.load.gates import parse
from sipherd.load.junit import junit_xml
from sipherd.load.metrics import Tally
from sipherd.load.records import Leftovers, RunFacts
from sipherd.load.verdict import give

FACTS = RunFacts(
    name="night <&\x00>",
    started_at=1_700_000_000.0,
    profile={},
    ended=60.25,
    leftovers=Leftovers(),
)
GATES = [parse("as_intended >= 99"), parse("deaths == 0")]


def suite(document: bytes) -> ElementTree.Element:
    found = ElementTree.fromstring(document).find("testsuite")
    assert found is not None
    return found


def results(of: ElementTree.Element) -> dict[str, list[str]]:
    return {str(case.get("name")): [child.tag for child in case] for case in of}


def test_a_failed_run() -> None:
    got = suite(junit_xml(FACTS, give(Tally(), GATES, leftovers=Leftovers(calls=1))))
    assert results(got) == {
        "as_intended >= 99": ["failure"],
        "deaths == 0": [],
        "this box was not the limit": [],
        "no phone grew": [],
        "drained to zero": ["failure"],
    }
    assert got.get("name") == "sipherd load night <&\ufffd>"
    assert got.get("timestamp") == "2023-11-14T22:13:20+00:00"
    assert got.get("time") == "60.250"
    counts = {name: got.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "2", "errors": "0", "skipped": "0"}
    failure = got.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "as_intended is undefined: there was nothing to measure"


def test_an_invalid_run_blames_the_box_alone() -> None:
    got = suite(junit_xml(FACTS, give(Tally(), GATES, interrupted="killed after 3 s")))
    assert results(got)["as_intended >= 99"] == ["skipped"]
    assert results(got)["this box was not the limit"] == ["error"]
    assert (got.get("failures"), got.get("errors"), got.get("skipped")) == ("0", "1", "1")


def test_a_run_that_passed_has_nothing_but_names() -> None:
    got = suite(junit_xml(FACTS, give(Tally(), GATES[1:])))
    assert not any(results(got).values())


def test_what_nobody_looked_at_has_not_passed() -> None:
    killed = msgspec.structs.replace(FACTS, leftovers=None)
    got = suite(junit_xml(killed, give(Tally(), [], interrupted="killed after 3 s")))
    assert results(got)["drained to zero"] == ["skipped"]
