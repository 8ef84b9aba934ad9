"""The directory of a run, and the database in it: written while the run goes on, read at any time.

::

    RUN/run.json       what the run is (RunFacts); replaced as a whole, never half written
    RUN/calls.sqlite   attempts, registrations, samples of box and phones
    RUN/events.ndjson  deaths, restarts, faults, overload: one RunEvent a line
    RUN/stats.csv      counters over time under SIPp's names (``load.sipp_stats``)

SQLite keeps a write-ahead log: a process that is killed leaves either all of a transaction or
nothing of it, and readers never wait for the writer.  With ``synchronous=NORMAL`` a commit is in
the kernel's hands when it returns, so it outlives every process, though not the machine's power.

The writer has neither thread nor clock of its own: whoever drives it tells it the time, and
``due()`` when it wants to be called again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..protocol.errors import RunError
from .closing import Closing
from .records import BoxSample, CallAttempt, PhoneSample, RegisterAttempt, RunEvent, RunFacts

__all__ = [
    "COMMIT_EVERY",
    "FACTS",
    "SCHEMA_VERSION",
    "Record",
    "RunReader",
    "RunWriter",
    "StoreError",
]

SCHEMA_VERSION = 2
"""Of ``calls.sqlite``, in its ``user_version``."""
COMMIT_EVERY = 0.5
"""Seconds from the first record of a batch to its commit: half of what a kill may cost."""
_BATCH = 2_000
"""Records after which a batch is committed early: what a transaction holds in memory is bounded."""
_BUSY_MS = 5_000

FACTS = "run.json"
"""A directory with it holds a run."""
_CALLS, _EVENTS, _STATS = "calls.sqlite", "events.ndjson", "stats.csv"

Record = CallAttempt | RegisterAttempt | BoxSample | PhoneSample
_R = TypeVar("_R", CallAttempt, RegisterAttempt, BoxSample, PhoneSample)

_TABLES: dict[type[Record], str] = {
    CallAttempt: "attempts",
    RegisterAttempt: "registrations",
    BoxSample: "box_samples",
    PhoneSample: "phone_samples",
}
_STRUCTURED = frozenset({"responses", "messages", "caller_media", "callee_media"})
"""Columns that hold JSON."""
_KEYS = {"attempts": "number INTEGER PRIMARY KEY"}
_INDEXES = (
    "CREATE INDEX attempts_call_id ON attempts (sip_call_id)",
    "CREATE INDEX attempts_outcome ON attempts (outcome)",
)


class StoreError(RunError):
    """A run's directory can't be written or read: one line that says what, where, the remedy."""


def _columns(record: type[Record]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(record))


def _schema() -> list[str]:
    statements = []
    for record, table in _TABLES.items():
        # No declared types: SQLite keeps each value as it was given, floats as floats.
        columns = ", ".join(
            _KEYS.get(table, "") if _KEYS.get(table, "").startswith(f"{name} ") else f'"{name}"'
            for name in _columns(record)
        )
        statements.append(f"CREATE TABLE {table} ({columns})")
    return [*statements, *_INDEXES]


def _plain(value: Any) -> Any:
    """The value as a column holds it: numbers and text as they are, the rest as JSON."""
    if value is None or isinstance(value, int | float | str):
        return value
    return msgspec.json.encode(value).decode()


def _row(record: Record) -> tuple[Any, ...]:
    return tuple(_plain(getattr(record, name)) for name in record.__struct_fields__)


class RunWriter(Closing):
    """Writes a run's directory.  Used by one thread of one process.

    Args:
        directory: is made, with its parents; must not hold a run already.
        facts: what the run is.

    Raises:
        StoreError: The directory can't be made, or holds a run.

    """

    def __init__(self, directory: Path, facts: RunFacts) -> None:
        self.directory = directory
        self._waiting: list[Record] = []
        self._oldest: float | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if (directory / FACTS).exists() or (directory / _CALLS).exists():
                raise StoreError(
                    f"{directory} holds a run already: name another directory, or remove it"
                )
            self._database = sqlite3.connect(
                directory / _CALLS, isolation_level=None, timeout=_BUSY_MS / 1000
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("BEGIN")
            for statement in _schema():
                self._database.execute(statement)
            self._database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._database.execute("COMMIT")
            # Line by line into the kernel: what was said is there when the process is not.
            self._events = (directory / _EVENTS).open("ab", buffering=0)
            self._stats = (directory / _STATS).open("ab", buffering=0)
            self.write_facts(facts)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{directory}: the run can't be written there: {error}") from error

    def write_facts(self, facts: RunFacts) -> None:
        """Replace ``run.json``: a reader sees the old one or the new one, whole."""
        path = self.directory / FACTS
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def add(self, record: Record, now: float) -> None:
        """Take a record; it is on its way to the disk within COMMIT_EVERY.

        An attempt with a number that was written before takes that one's place: an attempt may
        be written when it begins, as ``unfinished``, and again when it is over.

        Args:
            record: what to keep.
            now: seconds on any clock that only goes forward.

        """
        self._waiting.append(record)
        if self._oldest is None:
            self._oldest = now
        if len(self._waiting) >= _BATCH:
            self.commit()
        else:
            self.tick(now)

    def add_event(self, event: RunEvent) -> None:
        """Append one line to ``events.ndjson``, at once: they are few, and each may be the last."""
        self._events.write(msgspec.json.encode(event) + b"\n")

    def add_stats(self, line: str) -> None:
        """Append one line, without its end, to ``stats.csv``, at once."""
        self._stats.write(line.encode() + b"\n")

    def due(self) -> float | None:
        """When ``tick`` has something to commit, on the clock of ``add``; None: nothing waits."""
        return None if self._oldest is None else self._oldest + COMMIT_EVERY

    def tick(self, now: float) -> None:
        """Commit what waits, if its time has come."""
        due = self.due()
        if due is not None and now >= due:
            self.commit()

    def commit(self) -> None:
        """Commit what waits, all or nothing.

        Raises:
            StoreError: The disk is full, or the like; what waited still waits.

        """
        if not self._waiting:
            return
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for record in self._waiting:
            rows.setdefault(_TABLES[type(record)], []).append(_row(record))
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for table, values in rows.items():
                marks = ", ".join("?" * len(values[0]))
                self._database.executemany(
                    f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values
                )
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise StoreError(f"{self.directory / _CALLS}: can't be written: {error}") from error
        self._waiting.clear()
        self._oldest = None

    def close(self) -> None:
        """Commit what waits and close the files."""
        try:
            self.commit()
        finally:
            # An ordinary file again, which can be read where nothing can be written.  Not while
            # somebody reads it; then it stays as it is, and is none the worse.
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("PRAGMA busy_timeout=0")
                self._database.execute("PRAGMA journal_mode=DELETE")
            self._database.close()
            self._events.close()
            self._stats.close()


class RunReader(Closing):
    """Reads a run's directory: a finished one, an interrupted one, or one that still goes on.

    Raises:
        StoreError: There is no run, or one of another version.

    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            self.facts = msgspec.json.decode((directory / FACTS).read_bytes(), type=RunFacts)
        except FileNotFoundError as error:
            raise StoreError(f"{directory} holds no run: it has no {FACTS}") from error
        except OSError as error:
            raise StoreError(f"{directory / FACTS}: can't be read: {error.strerror}") from error
        except msgspec.MsgspecError as error:
            raise StoreError(f"{directory / FACTS} is not of a run: {error}") from error
        self._database = self._open(directory / _CALLS)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        if not path.exists():
            raise StoreError(f"{path} is missing: the run can't be read without it")
        database = sqlite3.connect(
            # Not mode=ro: after a kill the reader has to make the log's index anew.
            path,
            isolation_level=None,
            timeout=_BUSY_MS / 1000,
        )
        try:
            database.execute("PRAGMA query_only=1")
            (version,) = database.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            database.close()
            raise StoreError(f"{path} is not a database of a run: {error}") from error
        if version != SCHEMA_VERSION:
            database.close()
            raise StoreError(
                f"{path} has version {version} of the records, and this sipherd reads version "
                f"{SCHEMA_VERSION}: read it with the sipherd that wrote it"
            )
        return database

    def _records(self, record: type[_R], order: str, where: str = "") -> Iterator[_R]:
        fields = msgspec.structs.fields(record)
        names = ", ".join(f'"{field.name}"' for field in fields)
        structured = _STRUCTURED.intersection(field.name for field in fields)
        try:
            for row in self._database.execute(
                f"SELECT {names} FROM {_TABLES[record]} {where} ORDER BY {order}"
            ):
                values = dict(zip((field.name for field in fields), row, strict=True))
                for name in structured:
                    if values[name] is not None:
                        values[name] = msgspec.json.decode(values[name])
                # Not strict: SQLite has no truth values, and has them as 0 and 1.
                yield msgspec.convert(values, record, strict=False)
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            path = self.directory / _CALLS
            raise StoreError(f"{path} is damaged, in {_TABLES[record]}: {error}") from error

    def attempts(self) -> Iterator[CallAttempt]:
        """Call attempts by number, one at a time."""
        return self._records(CallAttempt, "number")

    def registrations(self) -> Iterator[RegisterAttempt]:
        """REGISTER attempts by time."""
        return self._records(RegisterAttempt, "at, rowid")

    def box_samples(self) -> Iterator[BoxSample]:
        """How the box was doing, by time."""
        return self._records(BoxSample, "t, rowid")

    def phone_samples(self) -> Iterator[PhoneSample]:
        """What the phones took, by phone, incarnation and time."""
        return self._records(PhoneSample, "phone, incarnation, t, rowid")

    def attempt(self, number_or_call_id: int | str) -> CallAttempt | None:
        """One attempt, by its number or its SIP Call-ID."""
        column = "number" if isinstance(number_or_call_id, int) else "sip_call_id"
        try:
            found = self._database.execute(
                f"SELECT number FROM attempts WHERE {column} = ? LIMIT 1", (number_or_call_id,)
            ).fetchone()
        except OverflowError:  # more than SQLite's integers can be
            return None
        except sqlite3.Error as error:
            path = self.directory / _CALLS
            raise StoreError(f"{path} is damaged, in attempts: {error}") from error
        if found is None:
            return None
        return next(self._records(CallAttempt, "number", f"WHERE number = {found[0]:d}"), None)

    def last(self) -> float:
        """The last moment that there is something of, in seconds of the run; 0 for nothing."""
        ends = "SELECT max(coalesce(started, intended) + coalesce(ended, 0)) FROM attempts"
        try:
            found = [
                self._database.execute(query).fetchone()[0]
                for query in (ends, "SELECT max(t) FROM box_samples")
            ]
        except sqlite3.Error as error:
            raise StoreError(f"{self.directory / _CALLS} is damaged: {error}") from error
        return max((float(t) for t in found if t is not None), default=0.0)

    def events(self) -> Iterator[RunEvent]:
        """The time line; a last line that a kill cut short is left out."""
        path = self.directory / _EVENTS
        if not path.exists():
            return
        with path.open("rb") as file:
            for n, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield msgspec.json.decode(line, type=RunEvent)
                except msgspec.MsgspecError as error:
                    raise StoreError(f"{path} line {n} is not an event: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._database.close()
