"""A load run whose phones are registered at Kamailio, which every call passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from commandline import Ran, process
from peers.kamailio import Kamailio
from sipherd.load.store import RunReader

RATE = 10

FILE = """
phones:
  - name: agent-{n}
    count: 40
    number: "{1000 + n}"
    media: none
    register: &registrar {server: "SERVER", username: "{number}", password: "secret-{number}"}
  - name: audio-{n}
    count: 10
    number: "{2000 + n}"
    max_calls: 40
    register: *registrar

load:
  callers: ["agent-*", "audio-*"]
  callees: ["agent-*", "audio-*"]
  pairing: random
  arrival: RATE
  duration: SECONDSs
  drain: 20s
  hold: {uniform: [1s, 5s]}
  media: tone:440
  mix:
    - {kind: answer, after: 200ms, weight: 60}
    - {kind: callee_hangs_up, weight: 10}
    - {kind: busy, weight: 10}
    - {kind: no_answer, after: 2s, weight: 10}
    - {kind: cancel, after: 500ms, weight: 10}
  gates: [as_intended >= 99, loss < 1%, mos_p5 > 3.8]
"""


def ran(*arguments: str | Path, timeout: float) -> Ran:
    with process(*arguments) as running:
        out, err = running.communicate(timeout=timeout)
        return Ran(running.returncode, out, err)


@pytest.mark.slow
@pytest.mark.parametrize(
    "seconds", [8, pytest.param(600, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_50_registered_phones(
    start_kamailio: Callable[..., Kamailio], tmp_path: Path, seconds: int
) -> None:
    kamailio = start_kamailio()
    text = FILE.replace("SERVER", kamailio.hostport).replace("RATE", str(RATE))
    file, run = tmp_path / "load.yaml", tmp_path / "run"
    file.write_text(text.replace("SECONDS", str(seconds)))
    done = ran("load", file, "--run", run, "--json", timeout=seconds + 90)
    # A box that is busy with other tests may be the limit of a short run, though of no gate.
    may_be = (0,) if seconds == 600 else (0, 3)
    assert done.code in may_be, done.out[-4000:] + done.err[-4000:]
    with RunReader(run) as reader:
        facts, attempts = reader.facts, list(reader.attempts())
    assert facts.verdict is not None
    assert facts.verdict["kind"] == {0: "PASS", 3: "INVALID"}[done.code]
    assert facts.verdict["failed"] == []
    assert len(attempts) == pytest.approx(RATE * seconds, rel=0.01, abs=1)
    # 100 and 407 are Kamailio's: every call went by way of it, and those with audio were heard.
    assert all({100, 407} & {code for code, _ in attempt.responses} for attempt in attempts)
    assert len(kamailio.requests("INVITE")) >= len(attempts)
    heard = [attempt.callee_media for attempt in attempts if attempt.callee_media is not None]
    assert sum(media.received for media in heard) > 0
    page = tmp_path / "report.html"
    shown = ran("report", run, "--html", page, timeout=60)
    assert shown.code == 0, shown.err
    assert facts.verdict["kind"] in page.read_text()
    assert json.loads((run / "run.json").read_text())["state"] == "finished"
