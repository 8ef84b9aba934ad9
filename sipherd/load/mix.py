"""What becomes of each call and for how long it stays up, drawn from the profile's seed.

Outcomes are drawn without putting back, from an urn that holds each entry as often as its quota:
so every order is as likely as any other, and in the end the mix is exact, whatever the seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from statistics import NormalDist

from .arrivals import exactly, number_of_calls
from .profile import Entry, HoldTime, LoadProfile

__all__ = ["draw", "drawn_entries", "hold_times", "quotas", "quotas_of"]


def quotas(weights: Sequence[float], total: int) -> tuple[int, ...]:
    """`total` shared out by `weights`, in whole numbers by the method of the largest remainder.

    Each share is the exact one, rounded down or up.  Of equal remainders the first is served.
    """
    exact = [exactly(weight) for weight in weights]
    shares = [total * weight / sum(exact) for weight in exact]
    shared = [math.floor(share) for share in shares]
    by_remainder = sorted(
        range(len(shares)), key=lambda index: shares[index] - shared[index], reverse=True
    )
    for index in by_remainder[: total - sum(shared)]:
        shared[index] += 1
    return tuple(shared)


def draw(counts: Sequence[int], rng: random.Random) -> Iterator[int]:
    """Indices of `counts`, each as often as it says, in an order by the numbers of `rng`."""
    left = list(counts)
    for remaining in range(sum(left), 0, -1):
        ticket = int(rng.random() * remaining)
        for index, count in enumerate(left):
            if ticket < count:
                left[index] -= 1
                yield index
                break
            ticket -= count


def quotas_of(profile: LoadProfile) -> dict[str, int]:
    """How many calls of the run get which entry of the mix, by its name."""
    counts = quotas([entry.weight for entry in profile.mix], number_of_calls(profile))
    return {entry.name: count for entry, count in zip(profile.mix, counts, strict=True)}


def drawn_entries(profile: LoadProfile) -> Iterator[Entry]:
    """The entry of the mix for each call of the run, in their order."""
    rng = random.Random(f"{profile.seed}/mix")
    return (profile.mix[index] for index in draw(list(quotas_of(profile).values()), rng))


def hold_times(profile: LoadProfile) -> Iterator[float]:
    """Seconds for each call of the run in their order, without an end.

    A call that is not to be answered has one, too: so a change of the mix changes no other call.
    """
    return _times(profile.hold, random.Random(f"{profile.seed}/hold"))


def _times(hold: HoldTime, rng: random.Random) -> Iterator[float]:
    # Each takes one number of random(), the only method that is promised to stay as it is.
    match hold.kind:
        case "fixed":
            while True:
                yield hold.mean
        case "uniform":
            while True:
                yield hold.mean + hold.spread * (2 * rng.random() - 1)
        case "exponential":
            while True:
                yield -hold.mean * math.log(1.0 - rng.random())
        case "normal":
            normal = NormalDist(hold.mean, hold.spread)
            below = normal.cdf(0)
            while True:
                # Of the part above 0 alone; never 0 or 1 itself, where the inverse is infinite.
                share = below + (1 - below) * (rng.random() or 2**-53)
                yield max(0.0, normal.inv_cdf(min(share, 1 - 2**-53)))
