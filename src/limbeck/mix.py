"""Numbers drawn from keys and seeds: the same bits on every machine and NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def mix(number: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's step, by which every bit of the answer hangs on every bit of the number.

    Args:
        number: uint64, any shape.

    Returns:
        uint64 of that shape; different numbers give different answers.

    Source: Steele, Lea, Flood 2014, figure 17 (`nextSeed` and `mix64variant13`).

    >>> hex(int(mix(np.array([0], np.uint64))[0]))
    '0xe220a8397b1dcdaf'
    """
    number = number + np.uint64(0x9E3779B97F4A7C15)
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(number ^ (number >> np.uint64(31)))
