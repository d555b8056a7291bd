from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.evidence.codec import decode_tick, encode_tick
from crossfade.core.evidence.sums import BINS, Arm, Cell, Tick, merge_ticks
from crossfade.core.split import Version

_text = st.text(max_size=8)
_count = st.integers(0, 2**62)
_seconds = st.floats(allow_nan=False, allow_infinity=False)
_histogram = st.dictionaries(st.integers(0, BINS - 1), _count, max_size=5).map(Counter)

_cells = st.builds(
    Cell,
    requests=_count,
    failures=_count,
    critical=_count,
    fallbacks=_count,
    asked_v1=_count,
    cached=_count,
    failing_users=st.sets(st.integers(-(2**63), 2**64 - 1), max_size=5),
    latency=_histogram,
    latency_cached=_histogram,
    facts=st.dictionaries(_text, st.dictionaries(_text, _count, max_size=3).map(Counter), max_size=3),
    timings=st.dictionaries(_text, st.tuples(_count, _seconds), max_size=3),
    outcomes=st.dictionaries(_text, st.tuples(_count, _seconds), max_size=3),
)
_arms = st.builds(Arm, st.sampled_from(Version), _text, _text, st.booleans())
_ticks = st.builds(
    Tick,
    number=st.integers(-(2**62), 2**62),
    start=_seconds,
    length=_seconds,
    cells=st.dictionaries(_arms, _cells, max_size=4),
    lost=_count,
    malformed=_count,
    sources=st.frozensets(_text, max_size=3),
    unanswered=st.dictionaries(_text, _text, max_size=2),
)


@given(_ticks)
def test_a_tick_comes_back_equal_and_as_the_same_types(tick: Tick) -> None:
    back = decode_tick(encode_tick(tick))
    assert tick == back
    assert encode_tick(tick) == encode_tick(back)
    assert all(type(arm) is Arm and type(arm.version) is Version for arm in back.cells)
    for cell in back.cells.values():
        counters = [cell.latency, cell.latency_cached, *cell.facts.values()]
        assert {Counter} == {type(counter) for counter in counters}
        assert all(type(sums) is tuple for sums in [*cell.timings.values(), *cell.outcomes.values()])


@given(_ticks)
def test_the_order_of_cells_does_not_change_the_bytes(tick: Tick) -> None:
    turned = Tick(
        number=tick.number,
        start=tick.start,
        length=tick.length,
        cells=dict(reversed(list(tick.cells.items()))),
        lost=tick.lost,
        malformed=tick.malformed,
        sources=tick.sources,
        unanswered=tick.unanswered,
    )
    assert encode_tick(tick) == encode_tick(turned)


def test_a_decoded_cell_can_be_added_to() -> None:
    arm = Arm(Version.V2, "eu", "")
    tick = Tick(number=1, start=10.0, length=10.0, cells={arm: Cell(requests=1, latency=Counter({3: 1}))})
    cell = decode_tick(encode_tick(tick)).cells[arm]
    cell.add(tick.cells[arm])
    assert Cell(requests=2, latency=Counter({3: 2})) == cell


def test_outcomes_add_up_and_merge_across_collectors() -> None:
    arm = Arm(Version.V2, "", "")
    one, other = (
        Tick(number=1, start=10.0, length=10.0, cells={arm: Cell(outcomes=held)}, unanswered=why)
        for held, why in (
            ({"conversion": (2, 1.0)}, {"errors": "NaN"}),
            ({"conversion": (3, 0.5), "mood": (1, 1.0)}, {}),
        )
    )
    merged = merge_ticks(one, other)
    assert merged.cells[arm].outcomes == {"conversion": (5, 1.5), "mood": (1, 1.0)}
    assert merged.unanswered == {"errors": "NaN"}
    assert one.cells[arm].outcomes == {"conversion": (2, 1.0)}


def test_text_that_is_not_unicode_is_kept_as_close_as_it_can_be() -> None:
    tick = Tick(number=1, start=10.0, length=10.0, cells={Arm(Version.V1, "a\ud800", ""): Cell(requests=1)})
    assert {Arm(Version.V1, "a?", ""): Cell(requests=1)} == decode_tick(encode_tick(tick)).cells


@given(st.binary(max_size=40))
def test_any_other_bytes_are_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_tick(data)


@pytest.mark.parametrize(
    "data", [b"null", b"[]", b"7", b"{}", b'{"format":2}', b'{"format":1}', b'{"format":1,"cells":[[]]}']
)
def test_json_of_another_shape_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"tick"):
        decode_tick(data)


def test_a_truncated_tick_is_a_value_error() -> None:
    whole = encode_tick(Tick(number=1, start=0.0, length=1.0, cells={Arm(Version.V1, "", ""): Cell(requests=1)}))
    for cut in range(len(whole)):
        with pytest.raises(ValueError, match=r"."):
            decode_tick(whole[:cut])
