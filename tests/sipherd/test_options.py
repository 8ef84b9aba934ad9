"""Options that several commands share."""

from __future__ import annotations

import click
import pytest

from sipherd.options import HERD, SECONDS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("200ms", 0.2),
        ("2s", 2.0),
        ("1m", 60.0),
        ("1h", 3600),
    ],
)
def test_durations_are_those_of_a_herd_file(text: str, seconds: float) -> None:
    assert SECONDS.convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-1", "1d", "nan", "inf", "1e3", "1 s", "."])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter):
        SECONDS.convert(text, None, None)


@pytest.mark.parametrize("name", ["", "../other", "a/b", "a b", "-a"])
def test_a_herds_name_is_no_path(name: str) -> None:
    with pytest.raises(click.BadParameter):
        HERD.convert(name, None, None)
