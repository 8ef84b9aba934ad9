"""A run's call attempts as one flat table: CSV, or Parquet with the extra ``parquet``.

One row per attempt, one column per field; the structured ones are spread out: ``responses`` as
``100@0.002 180@0.010``, ``messages`` as ``>INVITE@0.0 <200:INVITE@0.5 <200:INVITE@1.0,again`` where
``>`` is what the caller sent, media as ``caller_media_lost`` and so on.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from .records import CallAttempt, MediaStats, SipMessage
from .store import StoreError

__all__ = ["COLUMNS", "flatten", "write_csv", "write_parquet"]

_MEDIA = ("caller_media", "callee_media")
_ROWS_AT_ONCE = 10_000

COLUMNS: tuple[str, ...] = (
    *(name for name in CallAttempt.__struct_fields__ if name not in _MEDIA),
    "late",
    *(f"{side}_{name}" for side in _MEDIA for name in MediaStats.__struct_fields__),
)
"""Of the table, in their order."""


def flatten(attempt: CallAttempt) -> dict[str, Any]:
    """The attempt as one row: every one of COLUMNS, None where there is nothing."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {name: getattr(attempt, name) for name in COLUMNS if hasattr(attempt, name)}
    row["responses"] = " ".join(f"{code}@{seconds:.6f}" for code, seconds in attempt.responses)
    row["messages"] = " ".join(map(_message, attempt.messages))
    for side in _MEDIA:
        media: MediaStats | None = getattr(attempt, side)
        if media is not None:
            row |= {f"{side}_{k}": v for k, v in msgspec.structs.asdict(media).items()}
    return row


def _message(message: SipMessage) -> str:
    what = f"{message.code}:{message.method}" if message.code else message.method
    way, again = ">" if message.sent else "<", ",again" if message.again else ""
    return f"{way}{what}@{message.t:.6f}{again}"


def write_csv(attempts: Iterable[CallAttempt], path: Path) -> int:
    """Write a table with a header line (RFC 4180, UTF-8).

    Returns:
        How many attempts there were.

    Raises:
        StoreError: The file can't be written.

    """
    written = 0
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            for attempt in attempts:
                table.writerow(flatten(attempt))
                written += 1
    except OSError as error:
        raise StoreError(f"{path}: can't be written: {error.strerror}") from error
    return written


def _schema(arrow: Any) -> Any:
    """Types by name: a column of nothing but None would have none of its own."""
    kinds = {int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_(), str: arrow.string()}
    found: dict[str, Any] = {"late": arrow.float64(), "responses": arrow.string()}
    records: list[tuple[str, type[msgspec.Struct]]] = [("", CallAttempt)]
    records += [(side, MediaStats) for side in _MEDIA]
    for prefix, record in records:
        for field in msgspec.structs.fields(record):
            name = f"{prefix}_{field.name}" if prefix else field.name
            args = getattr(field.type, "__args__", ())
            plain = next((k for k in kinds if field.type is k or k in args), str)
            found.setdefault(name, kinds[plain])
    return arrow.schema([(name, found[name]) for name in COLUMNS])


def _batches(attempts: Iterable[CallAttempt]) -> Iterator[list[dict[str, Any]]]:
    rows = map(flatten, attempts)
    while batch := list(itertools.islice(rows, _ROWS_AT_ONCE)):
        yield batch


def write_parquet(attempts: Iterable[CallAttempt], path: Path) -> int:
    """Write the same table as Parquet.

    Returns:
        How many attempts there were.

    Raises:
        StoreError: pyarrow is not installed, or the file can't be written.

    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise StoreError(
            "Parquet needs pyarrow: pip install 'sipherd[parquet]', or export CSV"
        ) from error
    schema = _schema(pyarrow)
    written = 0
    try:
        with pyarrow.parquet.ParquetWriter(path, schema) as writer:
            for batch in _batches(attempts):
                writer.write_table(pyarrow.Table.from_pylist(batch, schema))
                written += len(batch)
    except OSError as error:
        raise StoreError(f"{path}: can't be written: {error}") from error
    return written
