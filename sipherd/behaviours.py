"""Functions of the user's that run in phones' processes: packed here, unpacked there.

What travels is a pickle of plain data and the name of a function of this module; within it the
user's function, by dill, with the variables that it uses. A phone's process knows nothing of all
this: it loads the one, which loads the other, and calls what it gets.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import io
import os
import pickle
import pickletools
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import dill

from .herd import Herd, Phone
from .protocol.behaviour import MAX_CODE, Behaviour
from .protocol.errors import BehaviourError
from .protocol.text import printable

__all__ = ["pack"]

_HERD = "herd"
"""Persistent id of the herd that the phone belongs to."""
_MAX_NAME = 80


def pack(behaviour: Callable[[Phone], object], herd: Herd, phone: str) -> Behaviour:
    """The function as it travels to the process of this phone.

    The herd itself, and its phones, may be among the variables that it uses: there they are the
    same herd, joined from there.

    Raises:
        BehaviourError: it can't travel, is no function of one argument, or is too large.
    """
    name = _name(behaviour)
    who = f"behaviour {name} of phone {phone}"
    _check(behaviour, who)
    try:
        code = _dumps(behaviour, herd)
    except Exception as error:  # pickling runs the code of whatever there is
        why = _reason(error)
        for variable, value in _variables(behaviour):
            try:
                _dumps(value, herd)
            except Exception as its_own:
                why = f'of its variable "{variable}" ({_reason(its_own)})'
                break
        raise BehaviourError(
            f"{who} can't be handed to another process because {why}; "
            "have it make there what it needs"
        ) from error
    assert isinstance(herd._where, Path)
    sent = _Sent(herd.name, str(herd._where.absolute()), phone, code)
    data = pickle.dumps(sent)
    if len(data) > MAX_CODE:
        raise BehaviourError(
            f"{who} takes {len(data)} bytes with the variables it uses, at most {MAX_CODE}; "
            "have it read large data from a file"
        )
    return Behaviour(name=name, code=data)


class _Sent:
    """Pickled in one process, it is in the other what runs there."""

    def __init__(self, herd: str, directory: str, phone: str, code: bytes) -> None:
        # Modules are found there where they are found here; "" is the current directory.
        path = tuple(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - not resolved
        files = tuple(_loaded_from_files(code))
        self._arguments = (herd, directory, phone, sys.version_info[:2], path, files, code)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, self._arguments


def _unpack(
    herd_name: str,
    directory: str,
    phone: str,
    python: tuple[int, int],
    path: tuple[str, ...],
    files: tuple[tuple[str, str], ...],
    code: bytes,
) -> Callable[[], None]:
    """Run in the phone's process, before it serves: what it raises keeps the phone from coming up.

    Nothing is asked of the supervisor yet, which waits for the phone.
    """
    if python != sys.version_info[:2]:  # byte code is good for one version
        theirs, ours = (".".join(map(str, v)) for v in (python, sys.version_info[:2]))
        raise BehaviourError(f"it was made by Python {theirs}, the herd runs Python {ours}")
    sys.path += [entry for entry in path if entry not in sys.path]
    for name, file in files:
        _load_from_file(name, file)
    herd = Herd.__new__(Herd)  # joined when the phone is ready
    behaviour = _loads(code, herd)

    def run() -> None:
        herd._join(herd_name, Path(directory))
        try:
            behaviour(herd[phone])
        except SystemExit as left:  # as a script leaves
            if left.code:
                raise
        # Not after an exception: the process goes with all that it has.
        herd.close()

    return run


def _loaded_from_files(code: bytes) -> Iterator[tuple[str, str]]:
    """Modules that the pickle refers to and no import would find, with their files.

    pytest makes such ones of test files (``--import-mode=importlib``).
    """
    named = {text for _, text, _ in pickletools.genops(code) if isinstance(text, str)}
    # What is of a script itself travels by value.
    for name in sorted(named & sys.modules.keys() - {"__main__"}):
        file = getattr(sys.modules[name], "__file__", None)
        if file and PathFinder.find_spec(name.partition(".")[0]) is None:
            yield name, os.path.abspath(file)  # noqa: PTH100 - not resolved


def _load_from_file(name: str, file: str) -> None:
    parts = name.split(".")
    for n in range(1, len(parts)):  # what stands for its packages
        parent = ".".join(parts[:n])
        sys.modules.setdefault(parent, ModuleType(parent))
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BehaviourError(f"module {name} can't be loaded from {file}")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


class _Pickler(dill.Pickler):  # type: ignore[misc]  # it has no types
    def __init__(self, file: io.BytesIO, herd: Herd) -> None:
        # Of the globals only those that are used: all of a script's would have its herd with them.
        super().__init__(file, recurse=True, byref=False)
        self._herd = herd

    def persistent_id(self, value: object) -> str | None:
        if not isinstance(value, Herd):
            return None
        if (value.name, value._where) != (self._herd.name, self._herd._where):
            raise BehaviourError(f"herd {value.name} is not the phone's own")
        return _HERD


class _Unpickler(dill.Unpickler):  # type: ignore[misc]  # it has no types
    def __init__(self, file: io.BytesIO, herd: Herd) -> None:
        # `ignore`: classes of the user's script are not those of the same name in ours.
        super().__init__(file, ignore=True)
        self._herd = herd

    def persistent_load(self, id: str) -> Herd:
        assert id == _HERD
        return self._herd


def _dumps(value: object, herd: Herd) -> bytes:
    file = io.BytesIO()
    _Pickler(file, herd).dump(value)
    return file.getvalue()


def _loads(code: bytes, herd: Herd) -> Callable[[Phone], object]:
    loaded: Callable[[Phone], object] = _Unpickler(io.BytesIO(code), herd).load()
    return loaded


# -- for people ----------------------------------------------------------------------------------


def _check(behaviour: object, who: str) -> None:
    """Raises BehaviourError where a mistake would show in the phone alone, or nowhere."""
    if not callable(behaviour):
        raise BehaviourError(f"{who}: expected a function, not {type(behaviour).__name__}")
    if inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour):
        raise BehaviourError(f"{who} is async: phones are blocking, make it a plain function")
    if inspect.isgeneratorfunction(behaviour):
        raise BehaviourError(f"{who} has a yield: called, it would do nothing")
    try:
        signature = inspect.signature(behaviour)
    except (TypeError, ValueError):  # one that is written in C may not tell
        return
    try:
        signature.bind(None)
    except TypeError:
        raise BehaviourError(
            f"{who} takes {signature}: it is called with one argument, the phone"
        ) from None


def _name(behaviour: object) -> str:
    while isinstance(behaviour, functools.partial):
        behaviour = behaviour.func
    name = getattr(behaviour, "__name__", None) or type(behaviour).__name__
    return printable(str(name))[:_MAX_NAME]


def _variables(behaviour: object) -> Iterator[tuple[str, object]]:
    """What it takes along, by name."""
    while isinstance(behaviour, functools.partial):
        yield from ((f"argument {n}", value) for n, value in enumerate(behaviour.args, 1))
        yield from behaviour.keywords.items()
        behaviour = behaviour.func
    behaviour = inspect.unwrap(behaviour) if callable(behaviour) else behaviour
    if inspect.ismethod(behaviour):
        yield "self", behaviour.__self__
        behaviour = behaviour.__func__
    if inspect.isfunction(behaviour):
        found = inspect.getclosurevars(behaviour)
        yield from found.nonlocals.items()
        yield from found.globals.items()


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return printable(str(error).strip().partition("\n")[0]) or type(error).__name__
