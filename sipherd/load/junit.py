"""A verdict as JUnit XML, which every CI server reads.

A test case per gate, one for the box, one for growth, one for the drain.  A run that is INVALID has
an error and no failure: nobody is to blame for gates that were not measured, they are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree import ElementTree

from .records import RunFacts
from .verdict import Finding, Verdict

__all__ = ["junit_xml"]

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 can't hold, not even escaped."""


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def junit_xml(facts: RunFacts, verdict: Verdict) -> bytes:
    """The verdict on this run, as a document in UTF-8."""
    suite = ElementTree.Element("testsuite", name=_clean(f"sipherd load {facts.name}"))
    suite.set("timestamp", datetime.fromtimestamp(facts.started_at, UTC).isoformat("T", "seconds"))
    suite.set("time", f"{facts.ended or 0.0:.3f}")

    def case(group: str, name: str) -> ElementTree.Element:
        return ElementTree.SubElement(
            suite, "testcase", classname=f"sipherd.load.{group}", name=_clean(name), time="0"
        )

    def told(element: ElementTree.Element, tag: str, found: Sequence[Finding]) -> None:
        if found:
            said = [_clean(finding.text) for finding in found]
            child = ElementTree.SubElement(element, tag, message=said[0], type=found[0].kind)
            child.text = "\n".join(said)

    for result in verdict.gates:
        gate = case("gate", result.gate.text)
        if not result.passed and verdict.kind == "INVALID":
            ElementTree.SubElement(gate, "skipped", message=_clean(f"INVALID run; {result.why}"))
        elif not result.passed:
            told(gate, "failure", [Finding("gate", result.why)])
    told(case("box", "this box was not the limit"), "error", verdict.invalid)
    for name, kind in (("no phone grew", "growth"), ("drained to zero", "not_drained")):
        told(judged := case("run", name), "failure", [f for f in verdict.failed if f.kind == kind])
        if kind == "not_drained" and facts.leftovers is None:
            ElementTree.SubElement(judged, "skipped", message="nobody looked after the run")

    suite.set("tests", str(len(suite)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return document + b"\n"
