"""stats.csv, against a file that SIPp itself has written."""

from __future__ import annotations

import csv
import re
import socket
import subprocess
import time
from datetime import UTC
from pathlib import Path

import msgspec
import pytest

from sipherd.load.records import CallAttempt
from sipherd.load.sipp_stats import COLUMNS, SippStats

#: ``sipp -sn uac 127.0.0.1:5070 -m 12 -r 10 -d 500 -trace_stat``, SIPp v3.6.1: header, last row.
SIPP = Path(__file__).parent / "data" / "sipp-3.6.1-uac.csv"


def made(**fields: object) -> CallAttempt:
    plain = {
        "number": 1,
        "intended": 0.0,
        "started": 0.0,
        "caller": "alice",
        "drawn": "answer",
        "outcome": "answer",
        "answered": 0.03,
        "ended": 0.53,
        "final_code": 200,
    }
    return msgspec.convert(plain | fields, CallAttempt)


def stats() -> SippStats:
    return SippStats(1795551602.879154, UTC)


def row(of: SippStats, now: float, rate: float = 10.0) -> dict[str, str]:
    cells = of.row(now, rate).split(";")
    assert cells.pop() == ""  # SIPp ends each row with a semicolon
    return dict(zip(COLUMNS, cells, strict=True))


def test_the_header_is_that_of_sipp() -> None:
    header, _ = SIPP.read_text().splitlines()
    assert stats().header() == header


def test_the_header_is_that_of_the_sipp_that_is_installed(sipp: str, tmp_path: Path) -> None:
    path = tmp_path / "sipp.csv"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        host, port = silent.getsockname()
        options = ["-i", host, "-m", "1", "-trace_stat", "-stf", str(path), "-fd", "1", "-nostdin"]
        process = subprocess.Popen(
            [sipp, "-sn", "uac", f"{host}:{port}", *options],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 20
            while not path.exists() or path.read_text().count("\n") < 1:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait(10)
    assert path.read_text().splitlines()[0] == stats().header()


def test_each_value_has_the_form_of_sipps() -> None:
    """Column by column: digits where SIPp has digits, separators where it has them."""
    _, theirs = SIPP.read_text().splitlines()
    of = stats()
    for _ in range(12):
        of.started()
        of.ended(made())
    ours = of.row(1.714671, 10.0)

    def forms(line: str) -> list[str]:
        cells = line.split(";")
        plain = re.compile(r"\d+(\.\d+)?")
        return ["n" if plain.fullmatch(cell) else re.sub(r"\d", "9", cell) for cell in cells]

    assert forms(ours) == forms(theirs)


def test_a_reader_of_sipps_files_reads_ours(tmp_path: Path) -> None:
    of = stats()
    path = tmp_path / "stats.csv"
    path.write_text(f"{of.header()}\n{of.row(0.0, 5)}\n{of.row(1.0, 5)}\n")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert [r["TargetRate"] for r in rows] == ["5", "5"]
    assert [r["ElapsedTime(C)"] for r in rows] == ["00:00:00", "00:00:01"]


def test_periodic_and_cumulative() -> None:
    of = stats()
    assert row(of, 0.0)["CallRate(C)"] == "0"
    for _ in range(10):
        of.started()
    for _ in range(4):
        of.ended(made())
    first = row(of, 1.0)
    of.started()
    of.ended(made(answered=0.25, retransmissions=2))
    second = row(of, 3.0, 12.5)

    assert (first["CallRate(P)"], first["CallRate(C)"]) == ("10", "10")
    assert (second["CallRate(P)"], second["CallRate(C)"]) == ("0.5", "3.66667")
    assert (second["TargetRate"], second["TotalCallCreated"]) == ("12.5", "11")
    assert (first["CurrentCall"], second["CurrentCall"]) == ("6", "6")
    assert (second["SuccessfulCall(P)"], second["SuccessfulCall(C)"]) == ("1", "5")
    assert (first["Retransmissions(C)"], second["Retransmissions(P)"]) == ("0", "2")
    assert (
        first["StartTime"]
        == second["StartTime"]
        == ("2026-11-24\t20:20:02.879154\t1795551602.879154")
    )
    assert second["LastResetTime"] == first["CurrentTime"]
    assert (second["ElapsedTime(P)"], second["ElapsedTime(C)"]) == ("00:00:02", "00:00:03")
    assert first["ResponseTime1(C)"] == "00:00:00:030000"
    assert second["ResponseTime1(P)"] == "00:00:00:250000"
    assert second["ResponseTime1(C)"] == "00:00:00:074000"
    assert second["ResponseTime1StDev(C)"] == "00:00:00:088000"
    assert second["CallLength(C)"] == "00:00:00:530000"
    assert second["ResponseTimeRepartition1_<30"] == "0"
    assert second["ResponseTimeRepartition1_<40"] == "4"  # 30 ms is not below 30
    assert second["ResponseTimeRepartition1_>=200"] == "1"
    assert second["CallLengthRepartition_<1000"] == "5"


def test_a_period_without_a_call() -> None:
    of = stats()
    of.started()
    of.ended(made())
    row(of, 1.0)
    quiet = row(of, 3725.5)
    assert quiet["ResponseTime1(P)"] == "00:00:00:000000"
    assert quiet["ResponseTime1(C)"] == "00:00:00:030000"
    assert quiet["ElapsedTime(C)"] == "01:02:05"


@pytest.mark.parametrize(
    ("fields", "counter"),
    [
        ({"outcome": "no_response", "cause": "no_response"}, "FailedMaxUDPRetrans"),
        ({"outcome": "no_response", "cause": "unreachable"}, "FailedCannotSendMessage"),
        ({"outcome": "refused", "started": None}, "FailedCallRejected"),
        ({"outcome": "crashed"}, "FailedCallRejected"),
        ({"outcome": "unfinished"}, "FailedTimeoutOnRecv"),
        ({"outcome": "busy", "final_code": 486}, "FailedUnexpectedMessage"),
    ],
)
def test_failures(fields: dict[str, object], counter: str) -> None:
    of = stats()
    attempt = made(**({"answered": None} | fields))
    if attempt.started is not None:
        of.started()
    of.ended(attempt)
    got = row(of, 1.0)
    assert got["FailedCall(C)"] == got[f"{counter}(C)"] == "1"
    assert sum(int(v) for k, v in got.items() if re.match(r"Failed\w+\(C\)", k)) == 2
    assert (got["SuccessfulCall(C)"], got["CurrentCall"]) == ("0", "0")


def test_busy_as_drawn_is_a_success() -> None:
    of = stats()
    of.started()
    of.ended(made(expected="busy", outcome="busy", answered=None, final_code=486))
    assert row(of, 1.0)["SuccessfulCall(C)"] == "1"
