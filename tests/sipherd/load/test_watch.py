"""Where a run shows itself."""

from __future__ import annotations

import io
import json

import msgspec
import pytest

from sipherd.load.live import Snapshot
from sipherd.load.watch import AsLines, AsRecords, OnTerminal

NOW = Snapshot(
    name="nightly",
    phase="running",
    elapsed=12.0,
    planned=60.0,
    intended_rate=20.0,
    started_rate=19.5,
    missed_rate=0.0,
    recent_rates=[1.0, 2.0],
    calls=240,
    ended=200,
    as_intended=200,
    under_way=40,
    answered=30,
)


class _Terminal(io.StringIO):
    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    watch = AsLines()
    watch.say("herd \x1b[31mlab")
    watch.show(NOW)
    watch.close()
    first, second = capsys.readouterr().out.splitlines()
    assert "\x1b" not in first
    assert second.startswith("0:12 running, 19.5 of 20 calls/s, 40 at once")


def test_a_warning_has_a_line_of_its_own_and_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch = AsLines()
    for worst in ("1.02 s", "900 ms", "3 s"):
        late = f"calls started late: the worst by {worst} (limit 100 ms)"
        watch.show(msgspec.structs.replace(NOW, warnings=[late]))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "warning" in line] == [
        "0:12 warning: calls started late: the worst by 1.02 s (limit 100 ms)"
    ]
    assert len(lines) == 4


def test_objects(capsys: pytest.CaptureFixture[str]) -> None:
    watch = AsRecords()
    watch.say("herd lab")
    watch.show(NOW)
    watch.close()
    out, err = capsys.readouterr()
    assert err == "herd lab\n"
    shown = json.loads(out)
    assert (shown["kind"], shown["phase"], shown["calls"]) == ("progress", "running", 240)


@pytest.mark.parametrize(("encoding", "bars"), [("utf-8", True), ("ascii", False)])
def test_a_terminal(monkeypatch: pytest.MonkeyPatch, encoding: str, bars: bool) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = _Terminal(encoding)
    watch = OnTerminal(terminal)
    watch.say("herd lab")
    watch.show(NOW)
    watch.say("warning: something")
    watch.show(NOW)
    watch.close()
    watch.close()
    shown = terminal.getvalue()
    assert "herd lab" in shown
    assert "calls at once" in shown
    assert "warning: something" in shown
    assert ("█" in shown) is bars
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
