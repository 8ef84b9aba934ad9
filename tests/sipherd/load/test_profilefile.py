"""A profile in YAML: what it reads to, and the line for each thing that is wrong."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sipherd.load.capacity import shortages
from sipherd.load.machine import Machine
from sipherd.load.mix import quotas_of
from sipherd.load.pairing import pairs_of
from sipherd.load.profile import Arrival, Entry, HoldTime, Infile, LoadLimits, LoadProfile, Stage
from sipherd.load.profilefile import load_profile, parse_profile
from sipherd.protocol.errors import HerdFileError
from sipherd.protocol.herdfile import load_herd_file

BASIC = "callers: a, callees: b, duration: 60s"


def read(fields: str, **environ: str) -> LoadProfile:
    return parse_profile(f"load: {{{fields}}}", "runs/load.yaml", environ)


def problems(text: str) -> list[str]:
    with pytest.raises(HerdFileError) as raised:
        parse_profile(text, "load.yaml", {})
    return raised.value.problems


def test_a_whole_profile() -> None:
    text = """\
herd: lab
phones:
  - {name: agent, nonsense: 1}  # whoever reads the herd will say so
load:
  callers: agent-*
  callees: ["2001", sip:echo@pbx.lab]
  pairing: random
  arrival:
    stages: [{ramp_to: 20, for: 30s}, {rate: 20, for: 5m}]
    poisson: true
  limits: {concurrent: 100, total: 1200}
  hold: {uniform: [1s, 5s]}
  mix:
    - answer
    - {kind: busy, weight: 2}
    - {kind: answer, name: slow, after: 4s, weight: 0.5}
    - {kind: dtmf, digits: "12#"}
    - {kind: hold_retrieve, after: 200ms, on_hold: 2s}
    - {kind: transfer, to: "2002"}
  media: tone
  warm_up: 10s
  drain: 5s
  seed: 7
  gates: [as_intended >= 99, "srd_ok_p95 < 200ms", loss < 1%]
"""
    assert parse_profile(text, "herd.yaml", {}) == LoadProfile(
        callers=("agent-*",),
        callees=("2001", "sip:echo@pbx.lab"),
        pairing="random",
        arrival=Arrival(
            stages=(Stage(rate=20.0, seconds=30.0, ramp=True), Stage(rate=20.0, seconds=300.0)),
            poisson=True,
        ),
        limits=LoadLimits(concurrent=100, total=1200),
        hold=HoldTime(kind="uniform", mean=3.0, spread=2.0),
        mix=(
            Entry(),
            Entry(kind="busy", weight=2.0),
            Entry(name="slow", after=4.0, weight=0.5),
            Entry(kind="dtmf", digits="12#"),
            Entry(kind="hold_retrieve", after=0.2, on_hold=2.0),
            Entry(kind="transfer", to="2002"),
        ),
        media="tone:440",
        warm_up=10.0,
        drain=5.0,
        seed=7,
        gates=("as_intended >= 99", "srd_ok_p95 < 200ms", "loss < 1%"),
    )


def test_the_short_forms() -> None:
    profile = read(f"{BASIC}, arrival: 20, hold: 3s, gates: seer >= 99")
    assert profile.arrival == Arrival(rate=20.0)
    assert profile.hold == HoldTime(mean=3.0)
    assert profile.gates == ("seer >= 99",)


@pytest.mark.parametrize(
    ("written", "hold"),
    [
        ("{fixed: 2s}", HoldTime(mean=2.0)),
        ("{exponential: 1m}", HoldTime(kind="exponential", mean=60.0)),
        ("{normal: {mean: 5s, deviation: 500ms}}", HoldTime(kind="normal", mean=5.0, spread=0.5)),
    ],
)
def test_hold_times(written: str, hold: HoldTime) -> None:
    assert read(f"{BASIC}, arrival: 1, hold: {written}").hold == hold


def test_files_are_looked_for_beside_the_profile() -> None:
    profile = read("callers: a, arrival: 1, duration: 5, infile: users.csv, media: hello.wav")
    assert profile.infile == Infile(file="runs/users.csv")
    assert profile.media == "runs/hello.wav"
    assert read("callers: a, arrival: 1, duration: 5, infile: /x.csv").infile == Infile(
        file="/x.csv"
    )


def test_fields_of_an_infile() -> None:
    both = read("arrival: 1, duration: 5, infile: {file: f, caller: 0, callee: 1}")
    assert both.infile == Infile(file="runs/f", caller=0, callee=1)
    callers = read("callees: b, arrival: 1, duration: 5, infile: {file: f, caller: 0}")
    assert callers.infile == Infile(file="runs/f", caller=0, callee=None)


def test_the_environment_fills_in_variables() -> None:
    assert read(f'{BASIC}, arrival: "${{RATE}}"', RATE="7.5").arrival == Arrival(rate=7.5)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("callers: a", ": arrival is missing, expected it here"),
        (f"{BASIC}, arival: 3", ": unknown key 'arival', did you mean arrival?"),
        (
            f"{BASIC}, arrival: 0",
            ".arrival: '0': expected more than 0 and at most 100000 calls per",
        ),
        (f"{BASIC}, arrival: fast", ".arrival: 'fast': expected a number, decimal and without"),
        (f"{BASIC}, arrival: []", ".arrival: expected a mapping with rate, stages, poisson, got a"),
        (f"{BASIC}, arrival: {{poisson: true}}", ".arrival: expected exactly one of rate and stag"),
        (f"{BASIC}, arrival: {{stages: 3}}", ".arrival.stages: expected a list of stages such as"),
        (f"{BASIC}, arrival: {{stages: []}}", ".arrival.stages: an empty list, expected stages"),
        (
            f"{BASIC}, arrival: {{stages: [{{rate: 1}}]}}",
            ".arrival.stages[0]: for is missing, expected it here",
        ),
        (
            f"{BASIC}, arrival: {{stages: [{{rate: 1, ramp_to: 1, for: 1s}}]}}",
            ".arrival.stages[0]: expected exactly one of rate and ramp_to",
        ),
        (f"{BASIC}, arrival: 1, hold: long", ".hold: 'long': expected a duration, seconds or such"),
        (
            f"{BASIC}, arrival: 1, hold: {{uniform: 3}}",
            ".hold.uniform: expected a list of two times",
        ),
        (
            f"{BASIC}, arrival: 1, hold: {{uniform: [3]}}",
            ".hold.uniform: expected two times such as",
        ),
        (
            f"{BASIC}, arrival: 1, hold: {{uniform: [3, 1]}}",
            ".hold.uniform: upside down: the first",
        ),
        (
            f"{BASIC}, arrival: 1, hold: {{normal: {{mean: 1}}}}",
            ".hold.normal: deviation is missing",
        ),
        (
            f"{BASIC}, arrival: 1, hold: {{}}",
            ".hold: expected exactly one of fixed, uniform, normal",
        ),
        (
            f"{BASIC}, arrival: 1, hold: {{exponential: 0}}",
            ".hold.exponential: exponential: expect",
        ),
        (
            f"{BASIC}, arrival: 1, mix: answer",
            ".mix: expected a list of entries such as {kind: busy",
        ),
        (
            f"{BASIC}, arrival: 1, mix: [ring]",
            ".mix[0]: 'ring': expected answer or callee_hangs_up",
        ),
        (
            f"{BASIC}, arrival: 1, mix: [{{weight: 1}}]",
            ".mix[0]: kind is missing, expected it here",
        ),
        (f"{BASIC}, arrival: 1, mix: [cancel]", ".mix[0]: cancel needs after"),
        (f"{BASIC}, arrival: 1, mix: [answer, answer]", ": mix: two entries are called answer"),
        (
            f"{BASIC}, arrival: 1, limits: {{total: 0}}",
            ".limits.total: '0': expected 1 to 1000000000",
        ),
        (
            f"{BASIC}, arrival: 1, limits: 5",
            ".limits: expected a mapping with concurrent, total, got",
        ),
        (f"{BASIC}, arrival: 1, warm_up: 2m", ": warm_up 120: expected less than the 60 s"),
        (f"{BASIC}, arrival: 1, media: 'tone:'", ".media: 'tone:': expected tone:HZ, such as"),
        (f"{BASIC}, arrival: 1, gates: [good]", ".gates[0]: 'good': expected METRIC COMPARISON"),
        (f"{BASIC}, arrival: 1, infile: f", ": callees: field 0 of infile has them, expected one"),
        ("callers: a, callees: b, arrival: 1", ": it never ends: expected duration, stages or"),
        ("callers: [], arrival: 1", ".callers: an empty list, expected one or more"),
        ("callers: a b, arrival: 1", ".callers: 'a b': expected a phone, a number or a sip: URI"),
        ("infile: {callee: 1}, arrival: 1", ".infile: file is missing, expected it here"),
        ("infile: '', arrival: 1", ".infile: '': expected the path of a file"),
        (
            "infile: {file: f, callee: x}, arrival: 1",
            ".infile.callee: 'x': expected a whole number",
        ),
    ],
)
def test_what_is_wrong_is_said_with_line_and_path(fields: str, problem: str) -> None:
    found = problems(f"# a comment\nload: {{{fields}}}")
    assert [line for line in found if line.startswith(f"load.yaml:2: $.load{problem}")], found


def test_all_problems_in_one_go_in_the_order_of_the_lines() -> None:
    found = problems("load:\n  seed: x\n  hold: x\n  arrival: x\n")
    assert [line.split(": ")[:2] for line in found] == [
        ["load.yaml:2", "$.load.seed"],
        ["load.yaml:3", "$.load.hold"],
        ["load.yaml:4", "$.load.arrival"],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["load.yaml: empty, expected a mapping with load"]),
        ("- a", ["load.yaml:1: $: expected a mapping with load, got a list"]),
        (
            "herd: lab",
            [
                "load.yaml:1: $: load is missing, expected it here",
                "load.yaml:1: $: unknown key 'herd', expected load",
            ],
        ),
        (
            "arrival: 3",
            [
                "load.yaml:1: $: unknown key 'arrival', expected load",
                "load.yaml:1: $: load is missing, expected it here",
            ],
        ),
    ],
)
def test_a_file_that_is_none(text: str, expected: list[str]) -> None:
    assert sorted(problems(text)) == sorted(expected)


@given(st.text(max_size=200))
def test_any_text_is_a_profile_or_has_problems(text: str) -> None:
    with contextlib.suppress(HerdFileError):
        parse_profile(text, "load.yaml", {})


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.sampled_from(["answer", "cancel", "1s", "*", "random", "${", "sip:", "tone:"])
        | st.text(max_size=5),
        lambda values: (
            st.lists(values, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "callers",
                        "callees",
                        "infile",
                        "file",
                        "pairing",
                        "arrival",
                        "rate",
                        "stages",
                        "for",
                        "ramp_to",
                        "poisson",
                        "limits",
                        "total",
                        "hold",
                        "uniform",
                        "normal",
                        "mean",
                        "deviation",
                        "exponential",
                        "mix",
                        "kind",
                        "weight",
                        "after",
                        "digits",
                        "media",
                        "duration",
                        "warm_up",
                        "seed",
                        "gates",
                    ]
                ),
                values,
                max_size=6,
            )
        ),
        max_leaves=20,
    )
)
def test_any_values_are_a_profile_or_have_problems(values: object) -> None:
    basic = {"callers": "a", "callees": "b", "arrival": 1, "duration": 1}
    load = basic | values if isinstance(values, dict) else values
    with contextlib.suppress(HerdFileError):
        parse_profile(yaml.safe_dump({"load": load}), "load.yaml", {})


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "load.yaml"
    with pytest.raises(HerdFileError, match="No such file or directory, expected a load profile"):
        load_profile(path, {})
    path.write_text("load: {callers: a, callees: b, arrival: 2, duration: 1s, media: m.wav}")
    assert load_profile(path, {}).media == str(tmp_path / "m.wav")


def test_the_example_is_a_minute_that_a_small_box_copes_with() -> None:
    example = Path(__file__).parents[3] / "examples" / "load.yaml"
    profile, herd = load_profile(example, {}), load_herd_file(example, {})
    assert quotas_of(profile) == {
        "answer": 720,
        "callee_hangs_up": 120,
        "busy": 120,
        "no_answer": 120,
        "cancel": 120,
    }
    small = Machine(processors=2.0, memory=2 * 10**9, tasks=1000, descriptors=1024)
    assert shortages(profile, herd, pairs_of(profile, herd.phones), small) == []
