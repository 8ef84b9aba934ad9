"""Attempts as a flat table."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import msgspec
import pyarrow.parquet
import pytest

import loadrun
from sipherd.load import export
from sipherd.load.records import CallAttempt, MediaStats, SipMessage
from sipherd.load.store import RunReader, RunWriter, StoreError

FULL = CallAttempt(
    number=1,
    intended=1.0,
    started=1.5,
    caller="al,ice",
    drawn="answer",
    outcome="answer",
    responses=((100, 0.001), (200, 0.25)),
    messages=(
        SipMessage(0.0, True, "INVITE"),
        SipMessage(0.5, True, "INVITE", again=True),
        SipMessage(0.75, False, "INVITE", 200),
    ),
    answered=0.25,
    final_code=200,
    callee_media=MediaStats(sent=10, received=9, lost=1, mos=4.1, one_way=False),
)
BARE = CallAttempt(number=2, intended=2.0, caller="bob", drawn="busy", outcome="refused")


def test_columns_are_the_fields_spread_out() -> None:
    flat = set(CallAttempt.__struct_fields__) - {"caller_media", "callee_media"}
    assert flat < set(export.COLUMNS)
    assert {"late", "caller_media_lost", "callee_media_mos"} < set(export.COLUMNS)
    assert len(set(export.COLUMNS)) == len(export.COLUMNS)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    assert export.write_csv([FULL, BARE], path) == 2
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["caller"] == "al,ice"
    assert first["responses"] == "100@0.001000 200@0.250000"
    assert first["messages"] == (">INVITE@0.000000 >INVITE@0.500000,again <200:INVITE@0.750000")
    assert second["messages"] == ""
    assert first["late"] == "0.5"
    assert first["callee_media_lost"] == "1"
    assert first["caller_media_lost"] == ""
    assert second["final_code"] == ""


def test_parquet_keeps_types_also_of_what_is_never_there(tmp_path: Path) -> None:
    path = tmp_path / "calls.parquet"
    assert export.write_parquet([FULL, BARE], path) == 2
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == list(export.COLUMNS)
    types = {name: str(table.schema.field(name).type) for name in export.COLUMNS}
    assert types["number"] == "int64"
    assert types["started"] == types["late"] == types["caller_media_mos"] == "double"
    assert types["outcome"] == types["ended_by"] == "string"
    assert types["warm_up"] == types["caller_media_one_way"] == "bool"
    assert table.to_pylist() == [export.flatten(FULL), export.flatten(BARE)]


def test_parquet_is_written_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_ROWS_AT_ONCE", 3)
    path = tmp_path / "calls.parquet"
    many = [msgspec.structs.replace(BARE, number=n) for n in range(1, 9)]
    assert export.write_parquet(many, path) == 8
    assert pyarrow.parquet.read_table(path)["number"].to_pylist() == list(range(1, 9))


def test_no_attempts_are_a_table_of_no_rows(tmp_path: Path) -> None:
    assert export.write_csv([], tmp_path / "c") == 0
    assert export.write_parquet([], tmp_path / "p") == 0
    assert pyarrow.parquet.read_table(tmp_path / "p").num_rows == 0


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StoreError, match=r"pip install 'sipherd\[parquet\]', or export CSV"):
        export.write_parquet([FULL], tmp_path / "p")


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    for write in (export.write_csv, export.write_parquet):
        with pytest.raises(StoreError, match=r"nowhere/f: can't be written"):
            write([FULL], tmp_path / "nowhere" / "f")


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_whole_run(tmp_path: Path, format: export.Format) -> None:
    with RunWriter(tmp_path / "run", loadrun.facts()) as writer:
        for record in (FULL, BARE, *loadrun.box(3), *loadrun.samples(16, ["alice"])):
            writer.add(record, 0.0)
        for event in loadrun.events(20)[:4]:
            writer.add_event(event)
    into = tmp_path / "new" / "tables"
    with RunReader(tmp_path / "run") as reader:
        written = export.export(reader, into, format)
    assert {path.name: rows for path, rows in written.items()} == {
        f"calls.{format}": 2,
        f"registrations.{format}": 0,
        f"box.{format}": 3,
        f"phones.{format}": 2,
        f"events.{format}": 4,
    }
    assert sorted(into.iterdir()) == sorted(written)
    if format == "csv":
        with (into / "events.csv").open(newline="") as file:
            first = next(csv.DictReader(file))
        assert first["kind"] == "fault"
        assert json.loads(first["facts"])["fault"] == "kill"
    else:
        table = pyarrow.parquet.read_table(into / "box.parquet")
        assert table["socket_drops"].to_pylist() == [
            sample.socket_drops for sample in loadrun.box(3)
        ]


def test_a_directory_that_can_t_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    RunWriter(tmp_path / "run", loadrun.facts()).close()
    with RunReader(tmp_path / "run") as reader, pytest.raises(StoreError, match="can't be made: "):
        export.export(reader, tmp_path / "file" / "tables", "csv")
