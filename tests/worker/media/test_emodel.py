"""The E-model, against values that ITU-T publishes."""

import pytest

from sipherd.worker.media import emodel
from sipherd.worker.media.emodel import BPL_G711_WITHOUT_PLC, mos, rating


def test_defaults_give_the_published_rating():
    """G.107: R = 93.2 with all parameters at their defaults, MOS 4.41."""
    assert rating(0, 0) == pytest.approx(93.2, abs=0.05)
    assert mos(rating(0, 0)) == pytest.approx(4.41, abs=0.01)


@pytest.mark.parametrize(
    ("r", "score"), [(90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)]
)
def test_the_table_of_annex_b(r, score):
    assert mos(r) == pytest.approx(score, abs=0.01)


@pytest.mark.parametrize(("r", "score"), [(-50, 1), (0, 1), (6.4, 1), (100, 4.5), (130, 4.5)])
def test_the_ends_of_the_scale(r, score):
    assert mos(r) == score


def test_loss():
    """Ie,eff = 95 · Ppl / (Ppl + Bpl)."""
    assert rating(0, 0) - rating(0, 0.05) == pytest.approx(95 * 5 / (5 + 25.1))
    assert rating(0, 0) - rating(0, 0.01, bpl=BPL_G711_WITHOUT_PLC) == pytest.approx(95 / 5.3)
    assert rating(0, 0.02, burst=2) < rating(0, 0.02)


def test_delay_hurts_little_below_150_ms_and_much_above():
    loss_at = [rating(0, 0) - rating(t, 0) for t in (0.05, 0.15, 0.3, 0.5)]
    assert loss_at == sorted(loss_at)
    assert loss_at[1] < 5
    assert loss_at[3] > 25


def test_the_score_is_never_out_of_range():
    for delay in (0, 0.1, 1, 100):
        for loss in (0, 0.5, 1):
            assert 1 <= emodel.mos(rating(delay, loss)) <= 4.5
