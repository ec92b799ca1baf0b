"""Laws of which windows are kept, and which are easy and hard."""

import dataclasses

import numpy as np
import pytest

from ldeq_jax.errors import UserError
from ldeq_jax.labelling.choice import EASY, HARD, Measures, Rules, divide, faults, measure, rank

FINE = Measures(
    motion=1.0,
    disagreement=2.0,
    worst_frame=4.0,
    face=80.0,
    brightness=100.0,
    lost={"a": 0, "b": 1},
    frames=120,
)
BAD = {
    "disagreement": (4.5, "the members disagree by 4.5 %, more than 4"),
    "worst_frame": (11.0, "they disagree by 11.0 % in one frame, more than 10"),
    "lost": ({"a": 0, "b": 7}, "b does not find the face in 7 of 120 frames"),
    "face": (40.0, "the face has 40 pixels, less than 48"),
    "brightness": (10.0, "it is dark, grey level 10, less than 25"),
}


def test_a_window_without_fault_is_kept():
    assert faults(FINE, Rules()) == []


@pytest.mark.parametrize("name", BAD)
def test_each_rule_drops_a_window_by_itself(name):
    value, reason = BAD[name]
    assert faults(dataclasses.replace(FINE, **{name: value}), Rules()) == [reason]


def test_all_reasons_are_told():
    worst = dataclasses.replace(FINE, **{name: value for name, (value, _) in BAD.items()})
    assert faults(worst, Rules()) == [reason for _, reason in BAD.values()]


def test_figures_do_not_depend_on_the_size_of_the_picture():
    rng = np.random.default_rng(0)
    points = 100 * rng.uniform(size=(1, 6, 2)) + rng.standard_normal((30, 6, 2)).cumsum(axis=0)
    rest = {
        "disagreement": rng.uniform(1, 2, (30, 6)),
        "brightness": np.full(30, 90.0),
        "found": np.ones((2, 30), bool),
        "names": ("a", "b"),
    }
    one, other = measure(points, **rest), measure(3 * points - 7, **rest)
    assert other.motion == pytest.approx(one.motion) and one.motion > 0
    assert other.face == pytest.approx(3 * one.face)
    still = measure(np.repeat(points[:1], 30, axis=0), **rest)
    assert still.motion == 0 and still.disagreement == one.disagreement


def windows(count, seed=0):
    rng = np.random.default_rng(seed)
    return {
        f"w{n}": dataclasses.replace(FINE, motion=motion, disagreement=disagreement)
        for n, (motion, disagreement) in enumerate(rng.uniform(0, 4, (count, 2)))
    }


@pytest.mark.parametrize("count", [0, 1, 2, 7, 20])
def test_half_of_the_windows_are_hard(count):
    found = divide(windows(count), Rules())
    assert list(found.values()).count(HARD) == count // 2 and len(found) == count


def test_hard_windows_move_and_disagree_more():
    some = windows(20)
    found = divide(some, Rules())
    for split, other in ((HARD, EASY),):
        for name in ("motion", "disagreement"):
            means = [
                np.mean([getattr(some[id], name) for id in some if found[id] == kind])
                for kind in (split, other)
            ]
            assert means[0] > means[1]


def test_the_order_of_windows_does_not_matter():
    some = windows(9)
    turned = dict(reversed(some.items()))
    assert divide(turned, Rules()) == divide(some, Rules())
    same = {id: FINE for id in some}
    assert divide(same, Rules()) == divide(dict(reversed(same.items())), Rules())


def test_either_threshold_makes_a_window_hard():
    some = windows(20)
    rules = Rules(hard_motion=3.0, hard_disagreement=2.5)
    for id, split in divide(some, rules).items():
        assert (split == HARD) == (some[id].motion >= 3 or some[id].disagreement >= 2.5)
    assert set(divide(some, Rules(hard_motion=5.0)).values()) == {EASY}


def test_dropped_windows_have_a_rank_of_their_own_and_do_not_count():
    some = windows(21)
    dropped = list(some)[3::4]
    found = rank(some, dropped, Rules())
    kept = {id: measures for id, measures in some.items() if id not in dropped}
    assert {id: found[id] for id in kept} == divide(kept, Rules())
    for id in dropped:
        assert found[id] == divide(kept | {id: some[id]}, Rules())[id]
    assert divide(some, Rules()) != found and found.keys() == some.keys()
    # What moves and disagrees more than all others is hard, whatever is dropped beside it.
    most = dataclasses.replace(FINE, motion=9.0, disagreement=9.0)
    least = dataclasses.replace(FINE, motion=0.0, disagreement=0.0)
    found = rank(some | {"most": most, "least": least}, [*dropped, "most", "least"], Rules())
    assert (found["most"], found["least"]) == (HARD, EASY)


def test_thresholds_below_zero_are_refused():
    with pytest.raises(UserError, match="darkest must be 0 or more"):
        Rules(darkest=-1)
