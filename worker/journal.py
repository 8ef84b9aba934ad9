"""The phone's journal: records in a memory file that outlives the process.

The supervisor makes the file (memfd) and passes it to each incarnation.  Layout, in blocks of
BLOCK bytes: the first holds the mark, random bytes that every header begins with; a record takes
as many blocks in a row as it needs:

    mark 8 · generation 8 · length of the key 4 · length of the data 4 · CRC-32 of all else 4
    · key · data

A record is written anew to free blocks, in one write, and only then is the one before it struck
out.  So a process that is killed at any point leaves the old record, or the new one, or both, of
which the higher generation counts.  Nobody outside of the box can know the mark: else a message
of 64 kB could bring a record of its own along.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from ..protocol.fork import JOURNAL_BLOCK

__all__ = ["BLOCK", "Journal"]

BLOCK = JOURNAL_BLOCK
"""Bytes; a call seldom needs more than one block."""
_SHRINK = 64
"""Blocks above which an empty journal gives its memory back."""
_MAGIC = b"sipherd1"
_FIRST = struct.Struct("<8s8sI")
_HEADER = struct.Struct("<8sQIII")
_STRUCK = bytes(8)


class _Place(NamedTuple):
    """Where a record is."""

    first: int
    blocks: int


class _Found(NamedTuple):
    generation: int
    key: str
    data: bytes
    place: _Place


class Journal:
    """The records in the file ``fd``, by key; those that are there are found at once.

    Whatever is in the file: what is no whole record is counted in `damaged`, and its place is used
    again.  Raises OSError where the file can't be read or written; a record that could not be
    written leaves the one before it in place.
    """

    def __init__(self, fd: int) -> None:
        self.damaged = 0
        """Records that were found torn or overwritten, in a file that is otherwise a journal's."""
        self._fd = fd
        self._mark = b""
        self._generation = 0
        self._places: dict[str, _Place] = {}
        self._free: list[int] = []
        """A heap of the free blocks below `_end`."""
        self._end = 1
        """The first block that has never been written."""
        if not self._find_mark():
            self._begin()
            return
        self._end = max(1, _blocks(os.fstat(fd).st_size))
        self._recover()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    @property
    def size(self) -> int:
        """Bytes that the file has memory for, or has had."""
        return self._end * BLOCK

    def records(self) -> dict[str, bytes]:
        """All records, in the order in which they were written."""
        found = [self._read(place.first) for place in self._places.values()]
        whole = sorted((record for record in found if record is not None), key=_generation)
        return {record.key: record.data for record in whole}

    def write(self, key: str, data: bytes) -> None:
        """Keep ``data`` under ``key``, in place of what was there."""
        self._generation += 1
        record = self._pack(self._generation, key.encode(), data)
        place = self._take(_blocks(len(record)))
        try:
            _write_all(self._fd, record, place.first * BLOCK)
        except BaseException:
            self._drop(place)
            raise
        old = self._places.get(key)
        self._places[key] = place
        if old is not None:
            self._drop(old)

    def forget(self, key: str) -> None:
        """Strike the record out; harmless where there is none."""
        place = self._places.pop(key, None)
        if place is not None:
            self._drop(place)
            if not self._places and self._end > _SHRINK:
                self.wipe()

    def wipe(self) -> None:
        """Forget every record, and give the memory back."""
        self._places.clear()
        self._free.clear()
        self._end = 1
        os.ftruncate(self._fd, BLOCK)

    # The file, as it was left

    def _find_mark(self) -> bool:
        first = os.pread(self._fd, _FIRST.size, 0)
        self._mark = first[8:16]
        return first == _first_block(self._mark)

    def _begin(self) -> None:
        """Make a new journal, of an empty file or of what is none."""
        self.damaged += os.fstat(self._fd).st_size > 0
        os.ftruncate(self._fd, 0)
        self._mark = os.urandom(8)
        _write_all(self._fd, _first_block(self._mark), 0)

    def _recover(self) -> None:
        newest: dict[str, _Found] = {}
        for found in self._scan():
            self._generation = max(self._generation, found.generation)
            known = newest.get(found.key)
            if known is None or known.generation < found.generation:
                newest[found.key] = found
        self._places = {key: found.place for key, found in newest.items()}
        used = {first + n for first, blocks in self._places.values() for n in range(blocks)}
        self._free = [block for block in range(1, self._end) if block not in used]
        # An older copy of a record would come back when the newer one is struck out.
        for block in self._free:
            self._strike(block)

    def _scan(self) -> Iterator[_Found]:
        """Every whole record, older copies included."""
        block = 1
        while block < self._end:
            found = self._read(block)
            if found is not None:
                # The data is not needed yet.
                yield found._replace(data=b"")
                block += found.place.blocks
                continue
            self.damaged += os.pread(self._fd, len(self._mark), block * BLOCK) == self._mark
            block += 1

    def _read(self, block: int) -> _Found | None:
        """The record that begins in ``block``, if it is whole."""
        begin = os.pread(self._fd, BLOCK, block * BLOCK)
        if len(begin) < _HEADER.size or not begin.startswith(self._mark):
            return None
        _, generation, key_length, length, _ = _HEADER.unpack_from(begin)
        size = _HEADER.size + key_length + length
        blocks = _blocks(size)
        if block + blocks > self._end:
            return None
        record = begin[:size]
        if blocks > 1:
            record += os.pread(self._fd, size - BLOCK, (block + 1) * BLOCK)
        name, data = record[_HEADER.size :][:key_length], record[_HEADER.size + key_length :]
        if record != self._pack(generation, name, data):
            return None
        try:
            key = name.decode()
        except UnicodeDecodeError:  # not ours, and yet with mark and checksum
            return None
        return _Found(generation, key, data, _Place(block, blocks))

    # Writing

    def _pack(self, generation: int, name: bytes, data: bytes) -> bytes:
        head = _HEADER.pack(self._mark, generation, len(name), len(data), 0)[:-4]
        check = zlib.crc32(data, zlib.crc32(name, zlib.crc32(head)))
        return b"".join((head, check.to_bytes(4, "little"), name, data))

    def _take(self, blocks: int) -> _Place:
        """So many blocks in a row, the first that are free: the file stays short."""
        if blocks == 1 and self._free:
            return _Place(heapq.heappop(self._free), 1)
        if blocks > 1 and len(self._free) >= blocks:
            self._free.sort()  # a sorted list is a heap
            for at in range(len(self._free) - blocks + 1):
                first = self._free[at]
                if self._free[at + blocks - 1] == first + blocks - 1:
                    del self._free[at : at + blocks]
                    return _Place(first, blocks)
        first, self._end = self._end, self._end + blocks
        return _Place(first, blocks)

    def _drop(self, place: _Place) -> None:
        """Its blocks are free; what is in them is no record any more."""
        with contextlib.suppress(OSError):  # there is nothing else that could be done
            self._strike(place.first)
        for block in range(place.first, place.first + place.blocks):
            heapq.heappush(self._free, block)

    def _strike(self, block: int) -> None:
        os.pwrite(self._fd, _STRUCK, block * BLOCK)


def _blocks(size: int) -> int:
    return -(-size // BLOCK)


def _first_block(mark: bytes) -> bytes:
    return _FIRST.pack(_MAGIC, mark, zlib.crc32(_MAGIC + mark))


def _generation(found: _Found) -> int:
    return found.generation


def _write_all(fd: int, data: bytes, offset: int) -> None:
    """A write to memory is done at once, but for a signal in the middle of a long one."""
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
