"""Gates: understood, refused with a remedy, judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.load.gates import Gate, GateError, judge, parse, say


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("as_intended >= 99", ("as_intended", ">=", 99.0)),
        ("  seer>=99.5% ", ("seer", ">=", 99.5)),
        ("srd_ok_p95 < 200ms", ("srd_ok_p95", "<", 0.2)),
        ("srd_ok_p99.9 <= 1.5 s", ("srd_ok_p99.9", "<=", 1.5)),
        ("pdd_max < 1min", ("pdd_max", "<", 60.0)),
        ("late_p99 < 500us", ("late_p99", "<", 0.0005)),
        ("loss < 1%", ("loss", "<", 1.0)),
        ("mos_p5 > 3.8", ("mos_p5", ">", 3.8)),
        ("crashed == 0", ("crashed", "==", 0.0)),
        ("deaths != 0", ("deaths", "!=", 0.0)),
    ],
)
def test_understood(text: str, gate: tuple[str, str, float]) -> None:
    got = parse(text)
    assert got.text == text.strip()
    assert (got.metric, got.operator) == gate[:2]
    assert got.limit == pytest.approx(gate[2])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected METRIC COMPARISON VALUE, as in 'seer >= 99'"),
        ("seer", "expected METRIC COMPARISON VALUE"),
        ("seer 99", "expected METRIC COMPARISON VALUE"),
        ("seer >= 9e1", "expected METRIC COMPARISON VALUE"),
        ("99 <= seer", "expected METRIC COMPARISON VALUE"),
        ("seer >= 99 and ser > 3", "expected METRIC COMPARISON VALUE"),
        ("seer => 99", "=> is no comparison: <= >= == != < >"),
        ("seer = 99", "= is no comparison"),
        ("sear >= 99", "did you mean ser or seer"),
        ("srd_ok < 1s", "srd_ok is many values: say which, as in srd_ok_p95"),
        ("srd_ok_p95 < 200", "200 of what? write 200ms or 200s"),
        ("srd_ok_p95 < 2h", "h is no unit of time: us, ms, s or min"),
        ("srd_ok_p95 < 2%", "% is no unit of time"),
        ("seer >= 99ms", "seer is a percentage: write 99%"),
        ("seer >= 101", "a percentage is from 0 to 100"),
        ("loss < -1%", "a percentage is from 0 to 100"),
        ("mos_p5 > 3.8s", "mos_p5 has no unit: write 3.8"),
        ("deaths == 0%", "deaths has no unit: write 0"),
    ],
)
def test_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(GateError) as refused:
        parse(text)
    assert says in refused.value.why
    assert str(refused.value) == f"gate {text!r}: {refused.value.why}"
    assert "\n" not in str(refused.value)


@given(text=st.text(max_size=40))
def test_whatever_is_written_there_is_understood_or_refused(text: str) -> None:
    said = ""
    try:
        assert isinstance(parse(text), Gate)
    except GateError as error:
        said = str(error)
    assert "\n" not in said


def test_judged() -> None:
    metrics = {"as_intended": 98.996, "srd_ok_p95": 0.187, "loss": None, "deaths": 5.0}
    gates = map(parse, ["as_intended >= 99", "srd_ok_p95 < 200ms", "loss < 1%", "deaths <= 5"])
    results = judge(gates, metrics.__getitem__)
    assert [(r.passed, r.why) for r in results] == [
        (False, "as_intended is 98.996 %, wanted >= 99 %"),
        (True, "srd_ok_p95 is 187 ms"),
        (False, "loss is undefined: there was nothing to measure"),
        (True, "deaths is 5"),
    ]


@pytest.mark.parametrize(
    ("operator", "below", "at", "above"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        (">", False, False, True),
        (">=", False, True, True),
        ("==", False, True, False),
        ("!=", True, False, True),
    ],
)
def test_comparisons(operator: str, below: bool, at: bool, above: bool) -> None:
    gate = parse(f"mos_mean {operator} 4")
    for value, passed in ((3.9, below), (4.0, at), (4.1, above)):
        (result,) = judge([gate], lambda name, value=value: value)  # type: ignore[misc]
        assert result.passed is passed


def test_values_as_people_read_them() -> None:
    assert say(100.0, "percent") == "100 %"
    assert say(1.25, "seconds") == "1.25 s"
    assert say(0.0123, "seconds") == "12.3 ms"
    assert say(3.85, "score") == "3.85"
    assert say(12.0, "count") == "12"
    assert say(None, "percent") == "undefined"
