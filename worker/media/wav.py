"""WAV files: any that soundfile reads, to 8 kHz mono; and recordings, sound even if we die.

soundfile (BSD, with libsndfile, LGPL), soxr (LGPL) and numpy cost about 25 MB and 0.15 s: they are
imported by the first file that needs them, and a plain 8 kHz mono file of 16 bits does not.
"""

from __future__ import annotations

import os
import stat
import struct
import wave
from pathlib import Path
from typing import Any

from .codec import RATE

__all__ = ["MAX_SECONDS", "WavError", "WavWriter", "read"]

MAX_SECONDS = 3600
"""Longest file that is played: it is held in memory, 16 kB for each second."""
_BLOCK = 1 << 16
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_UPDATE_EVERY = 2 * RATE
"""Bytes of a mono recording between two updates of its header: a second."""


class WavError(Exception):
    """A file that can't be played or written; ``reason`` is one word for programs.

    ``not_found``, ``not_audio``, ``empty``, ``too_long``, ``unreadable``, ``unwritable``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read(path: str) -> bytes:
    """The samples of an audio file: 16 bits, 8 kHz, its channels mixed.  Blocks.

    Raises WavError.
    """
    try:
        kind = Path(path).stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a zero in the path
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(kind):  # a FIFO would hold us up
        raise WavError("not_audio", f"{path} is not a file with audio in it")
    pcm = _read_plain(path)
    if pcm is None:
        pcm = _read_any(path)
    if not pcm:
        raise WavError("empty", f"{path} has no audio in it: its length is zero")
    return pcm


def _read_plain(path: str) -> bytes | None:
    """The samples of a file that needs no conversion; None for any other."""
    try:
        with wave.open(path, "rb") as file:
            if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
                return None
            _check_length(path, file.getnframes() / RATE)
            pcm = file.readframes(MAX_SECONDS * RATE)
            return pcm[: len(pcm) & ~1]
    except OSError as error:
        raise _unreadable(path, error) from None
    except (wave.Error, EOFError):
        return None


def _read_any(path: str) -> bytes:
    # Not at the top: an idle phone is to have neither their memory nor their start-up.
    import numpy
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(path) as file:
            _check_length(path, file.frames / file.samplerate)
            resampler = soxr.ResampleStream(file.samplerate, RATE, 1, dtype="float32")
            parts: list[bytes] = []
            while True:
                block = file.read(_BLOCK, dtype="float32", always_2d=True)
                last = len(block) < _BLOCK
                mono = numpy.ascontiguousarray(block.mean(axis=1), dtype="float32")
                parts.append(_to_16_bits(numpy, resampler.resample_chunk(mono, last=last)))
                if last:
                    return b"".join(parts)
    except soundfile.LibsndfileError as error:
        why = str(getattr(error, "error_string", error)).rstrip(".")
        raise WavError("not_audio", f"{path} is no audio file that can be read: {why}") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except (RuntimeError, ValueError) as error:  # e.g. soxr: a rate it can't convert
        raise WavError("not_audio", f"{path} can't be converted: {error}") from None


def _to_16_bits(numpy: Any, samples: Any) -> bytes:
    scaled = numpy.clip(numpy.nan_to_num(samples) * 32768, -32768, 32767)
    data: bytes = numpy.rint(scaled).astype("<i2").tobytes()
    return data


def _check_length(path: str, seconds: float) -> None:
    if seconds > MAX_SECONDS:
        raise WavError("too_long", f"{path} has {seconds:.0f} s: at most {MAX_SECONDS} are played")


def _unreadable(path: str, error: Exception) -> WavError:
    if isinstance(error, FileNotFoundError):
        return WavError("not_found", f"{path} does not exist")
    why = error.strerror if isinstance(error, OSError) else None
    return WavError("unreadable", f"{path} can't be read: {why or error}")


class WavWriter:
    """A WAV file that grows: 16-bit samples at 8 kHz.

    Its header is right once a second, so that little is lost if the process is killed.
    """

    def __init__(self, path: str, channels: int) -> None:
        """Make the file, or empty it.  Raises WavError (``unwritable``)."""
        self.path = path
        self._channels = channels
        self._size = 0
        self._updated = 0
        try:
            # Not blocking: a FIFO that nobody reads is an error, and no stop.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
            self._fd = os.open(path, flags, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                    raise WavError("unwritable", f"{path} is not a regular file")
                self._write(self._header(), 0)
            except BaseException:
                os.close(self._fd)
                raise
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from None

    def write(self, pcm: bytes) -> None:
        """Append samples.  Raises WavError (``unwritable``): the disk is full …"""
        try:
            self._write(pcm, _HEADER.size + self._size)
            self._size += len(pcm)
            if self._size - self._updated >= _UPDATE_EVERY * self._channels:
                self._update()
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Complete the file.  Raises WavError (``unwritable``); the file is closed all the same."""
        if self._fd < 0:
            return
        fd = self._fd
        try:
            self._update()
        except OSError as error:
            raise self._unwritable(error) from None
        finally:
            self._fd = -1
            os.close(fd)

    def _update(self) -> None:
        self._write(self._header(), 0)
        self._updated = self._size

    def _write(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, offset)
            view, offset = view[written:], offset + written

    def _header(self) -> bytes:
        width = 2 * self._channels
        size = min(self._size, 2**32 - _HEADER.size)  # 37 hours: what is above is not announced
        return _HEADER.pack(
            b"RIFF",
            size + _HEADER.size - 8,
            b"WAVE",
            b"fmt ",
            16,
            1,
            self._channels,
            RATE,
            RATE * width,
            width,
            16,
            b"data",
            size,
        )

    def _unwritable(self, error: Exception) -> WavError:
        why = error.strerror if isinstance(error, OSError) else None
        return WavError("unwritable", f"{self.path} can't be written: {why or error}")
