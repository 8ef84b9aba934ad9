"""A run's records as flat tables: CSV, or Parquet with the extra ``parquet``.

One row per record, one column per field.  Of a call attempt the structured ones are spread out:
``responses`` as ``100@0.002 180@0.010``, ``messages`` as ``>INVITE@0.0 <200:INVITE@0.5
<200:INVITE@1.0,again`` where ``>`` is what the caller sent, media as ``caller_media_lost`` and so
on.  The facts of an event are JSON.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from .records import (
    BoxSample,
    CallAttempt,
    MediaStats,
    PhoneSample,
    RegisterAttempt,
    RunEvent,
    SipMessage,
)
from .store import RunReader, StoreError

__all__ = ["COLUMNS", "TABLES", "Format", "Row", "export", "flatten", "write_csv", "write_parquet"]

Format: TypeAlias = Literal["csv", "parquet"]
Row: TypeAlias = CallAttempt | RegisterAttempt | BoxSample | PhoneSample | RunEvent

_MEDIA = ("caller_media", "callee_media")
_ROWS_AT_ONCE = 10_000


def _types(record: type[msgspec.Struct], prefix: str = "") -> dict[str, type]:
    """Each column of a record and what is in it: a number, a truth value or text."""
    found: dict[str, type] = {}
    for field in msgspec.structs.fields(record):
        of = getattr(field.type, "__args__", ())
        kind = next((k for k in (int, float, bool, str) if field.type is k or k in of), str)
        found[prefix + field.name] = kind
    return found


def _call_types() -> dict[str, type]:
    found = {name: kind for name, kind in _types(CallAttempt).items() if name not in _MEDIA}
    found["late"] = float
    for side in _MEDIA:
        found |= _types(MediaStats, f"{side}_")
    return found


_COLUMNS: Mapping[type[Row], dict[str, type]] = {
    CallAttempt: _call_types(),
    RegisterAttempt: _types(RegisterAttempt),
    BoxSample: _types(BoxSample),
    PhoneSample: _types(PhoneSample),
    RunEvent: _types(RunEvent),
}
COLUMNS: tuple[str, ...] = tuple(_COLUMNS[CallAttempt])
"""Of the table of call attempts, in their order."""

TABLES: Mapping[str, tuple[type[Row], Callable[[RunReader], Iterator[Row]]]] = {
    "calls": (CallAttempt, RunReader.attempts),
    "registrations": (RegisterAttempt, RunReader.registrations),
    "box": (BoxSample, RunReader.box_samples),
    "phones": (PhoneSample, RunReader.phone_samples),
    "events": (RunEvent, RunReader.events),
}
"""What a run consists of, by the name of its file."""


def export(reader: RunReader, directory: Path, format: Format) -> dict[Path, int]:
    """Write all tables of a run into a directory, which is made; files there are replaced.

    Returns:
        The files, and how many rows each has.

    Raises:
        StoreError: They can't be written, or the run can't be read.

    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{directory}: can't be made: {error.strerror}") from error
    write = write_csv if format == "csv" else write_parquet
    return {
        (path := directory / f"{name}.{format}"): write(rows(reader), path, record)
        for name, (record, rows) in TABLES.items()
    }


def flatten(record: Row) -> dict[str, Any]:
    """The record as one row: every one of its columns, None where there is nothing."""
    columns = _COLUMNS[type(record)]
    row: dict[str, Any] = dict.fromkeys(columns)
    row |= {name: getattr(record, name) for name in columns if hasattr(record, name)}
    if isinstance(record, CallAttempt):
        row["responses"] = " ".join(f"{code}@{seconds:.6f}" for code, seconds in record.responses)
        row["messages"] = " ".join(map(_message, record.messages))
        for side in _MEDIA:
            media: MediaStats | None = getattr(record, side)
            if media is not None:
                row |= {f"{side}_{k}": v for k, v in msgspec.structs.asdict(media).items()}
    return {name: _plain(value) for name, value in row.items()}


def _message(message: SipMessage) -> str:
    what = f"{message.code}:{message.method}" if message.code else message.method
    way, again = ">" if message.sent else "<", ",again" if message.again else ""
    return f"{way}{what}@{message.t:.6f}{again}"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int | float | str):
        return value
    return msgspec.json.encode(value).decode()


def write_csv(records: Iterable[Row], path: Path, record: type[Row] = CallAttempt) -> int:
    """Write a table with a header line (RFC 4180, UTF-8).

    Args:
        records: all of one type.
        path: where to.
        record: their type.

    Returns:
        How many records there were.

    Raises:
        StoreError: The file can't be written.

    """
    written = 0
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(_COLUMNS[record]))
            table.writeheader()
            for one in records:
                table.writerow(flatten(one))
                written += 1
    except OSError as error:
        raise StoreError(f"{path}: can't be written: {error.strerror}") from error
    return written


def _batches(records: Iterable[Row]) -> Iterator[list[dict[str, Any]]]:
    rows = map(flatten, records)
    while batch := list(itertools.islice(rows, _ROWS_AT_ONCE)):
        yield batch


def write_parquet(records: Iterable[Row], path: Path, record: type[Row] = CallAttempt) -> int:
    """Write the same table as Parquet.

    Args:
        records: all of one type.
        path: where to.
        record: their type.

    Returns:
        How many records there were.

    Raises:
        StoreError: pyarrow is not installed, or the file can't be written.

    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet
    except ImportError as error:
        raise StoreError(
            "Parquet needs pyarrow: pip install 'sipherd[parquet]', or export CSV"
        ) from error
    # Types by name: a column of nothing but None would have none of its own.
    kinds = {int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_(), str: arrow.string()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in _COLUMNS[record].items()])
    written = 0
    try:
        with pyarrow.parquet.ParquetWriter(path, schema) as writer:
            for batch in _batches(records):
                writer.write_table(arrow.Table.from_pylist(batch, schema))
                written += len(batch)
    except OSError as error:
        raise StoreError(f"{path}: can't be written: {error}") from error
    return written
