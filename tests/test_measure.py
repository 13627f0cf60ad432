import time

import numpy as np
import pytest

from limbeck.encoder import Encoder
from limbeck.encoders.vocabulary import Vocabulary
from limbeck.errors import UserError
from limbeck.measure import speed
from limbeck.types import Batch, Key, Signals


def batch(rows):
    columns = {"user": ["a"] * rows, "other": ["b"] * rows}
    return Batch(columns, Key("s", np.arange(rows), np.zeros(rows, np.int64)))


class Sleeper:
    """Takes a fixed time a call and a row; counts what it was asked."""

    fingerprint, reads = "sleeper", ("user",)

    def __init__(self, call, row):
        self.call, self.row, self.asked = call, row, []

    def __call__(self, batch):
        assert set(batch) == {"user"}
        self.asked.append(len(batch.key))
        time.sleep(self.call + self.row * len(batch.key))
        return Signals({}, {})


def test_latency_and_throughput_are_those_of_a_known_sleep():
    found = speed(Sleeper(0.002, 0.0001), [batch(1)], batch(100), seconds=0.4)
    # A sleep is never too short, and on a busy machine it can be long.
    assert 2.1 <= found.p50_ms <= found.p95_ms
    assert found.p50_ms < 50
    assert 100 / 0.5 < found.rows_per_second <= 100 / 0.012
    assert found.encode_ms is None
    assert found.encode_share is None


def test_a_slow_predictor_is_asked_five_times_and_a_warm_up():
    slow = Sleeper(0.03, 0)
    found = speed(slow, [batch(1)], batch(2), seconds=0.01)
    assert slow.asked == [1] * 6 + [2] * 6
    assert found.calls == 5


def test_encoding_is_told_apart_where_there_is_an_encoder():
    class Model(Sleeper):
        encoder = Encoder([Vocabulary("user", ("a",))])

        def __call__(self, batch):
            self.encoder(batch)
            return super().__call__(batch)

    found = speed(Model(0.001, 0), [batch(1)], batch(50), seconds=0.2)
    assert 0 < found.encode_ms < found.p50_ms
    assert 0 < found.encode_share < 1


def test_batches_of_the_wrong_size_are_refused():
    with pytest.raises(UserError, match="one row"):
        speed(Sleeper(0, 0), [batch(2)], batch(2))
    with pytest.raises(UserError, match="one row"):
        speed(Sleeper(0, 0), [], batch(2))
    with pytest.raises(UserError, match="empty"):
        speed(Sleeper(0, 0), [batch(1)], batch(0))


def test_what_has_threads_of_its_own_is_timed_on_one():
    class Threaded(Sleeper):
        threads = 8

        def on_threads(self, count):
            alone = Sleeper(0, 0)
            alone.threads, Threaded.made = count, alone
            return alone

    asked = Threaded(0, 0)
    speed(asked, [batch(1)], batch(2), seconds=0.01)
    assert asked.asked == []
    assert Threaded.made.threads == 1
    assert Threaded.made.asked
