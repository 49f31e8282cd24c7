"""How often the function of a series is sent."""

from __future__ import annotations

from functions import square

from thread_chunks._calls.pace import Pace
from thread_chunks._wire.ledger import Ledger
from thread_chunks._wire.parcels import Parcels


def test_a_function_of_a_module_is_one_for_all_series_and_one_with_a_state_is_sent_anew():
    parcels = Parcels(Ledger(lambda packed: packed), lambda packed: packed)

    def keys(fn):
        return {parcels.for_series(fn, Pace()).parcel.key for _ in range(3)}

    counts = [0]
    assert len(keys(square)) == 1
    assert parcels.for_call(square, Pace()).parcel.key in keys(square)
    assert len(keys(lambda x: counts.append(x) or len(counts))) == 3
    assert len(keys(counts.append)) == 3
