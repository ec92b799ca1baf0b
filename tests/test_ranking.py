"""Whether benchmarks rank methods alike: `benchmarks.ranking`."""

import json

import numpy as np
import pytest

from benchmarks import ranking
from ldeq_jax.errors import UserError

ALONE = ("each frame alone", "")
TRUTH = {
    ALONE: ranking.Score(2.0, 100.0),
    ("kalman", "noise_ratio 1"): ranking.Score(2.0, 80.0),
    ("kalman", "noise_ratio 9"): ranking.Score(2.2, 40.0),
    ("gaussian", "sigma 1"): ranking.Score(1.9, 30.0),
    ("RwR, mean", "penalty 1"): ranking.Score(2.0, 60.0),
    ("RwR, mean", "penalty 2"): ranking.Score(2.0, 50.0),
}


def test_a_benchmark_ranks_like_itself():
    text = ranking.report(TRUTH, TRUTH, "made", 0.5)
    assert "rank correlation of NME 1.00, of NMF 1.00" in text
    assert "-37.5 % by the truth, -37.5 % by made" in text  # 50 against 80
    assert text.count("+0.0") == 6  # nothing is lost by any of three choices


def test_the_choice_keeps_the_error_and_is_causal():
    keys = [key for key in TRUTH if ranking._KINDS["all causal settings"](key[0])]
    assert ("gaussian", "sigma 1") not in keys
    assert ranking.chosen(TRUTH, keys, 0.5) == ("RwR, mean", "penalty 2")
    assert ranking.chosen(TRUTH, keys, 20.0) == ("kalman", "noise_ratio 9")
    high = {
        key: ranking.Score(score.nme + (key != ALONE), score.nmf) for key, score in TRUTH.items()
    }
    assert high[ranking.chosen(high, keys, 0.5)].nme == 3.0  # none keeps it: the least error


def test_what_is_lost_is_measured_by_the_truth():
    made = TRUTH | {("RwR, mean", "penalty 1"): ranking.Score(2.0, 10.0)}
    text = ranking.report(TRUTH, made, "made", 0.5)
    row = next(line for line in text.splitlines() if "all causal settings" in line)
    assert "penalty 1: 2.000 / 60.0" in row
    assert "+20.0" in row


def test_pairs_are_alike_from_the_difference_on_that_noise_hides():
    truth = 100 * 1.001 ** np.arange(400.0)
    noise = 1.02 ** np.random.default_rng(0).normal(size=400)
    texts, least = ranking.ordered_alike(truth, truth * noise)
    assert 3.0 < least < 7.0  # 1.645 times the spread of the difference of two, 2.8 %
    assert texts[-1].startswith("100 %")
    texts, least = ranking.ordered_alike(truth, -truth)
    assert np.isnan(least)
    assert texts[-1].startswith("0 %")


def test_both_splits_count_by_their_videos(tmp_path):
    row = {"method": "kalman", "setting": "noise_ratio 1", "nmf": 10.0}
    first = row | {"videos": 1, "nme_percent": 1.0}
    second = row | {"videos": 3, "nme_percent": 2.0}
    failed = row | {"setting": "noise_ratio 2", "videos": 3, "nme_percent": None}
    text = json.dumps({"tuning": [first], "reported": [second, failed]})
    (tmp_path / "metrics.json").write_text(text)
    assert ranking.read(tmp_path) == {("kalman", "noise_ratio 1"): (1.75, 10.0)}
    assert ranking.read(tmp_path, ["reported"]) == {("kalman", "noise_ratio 1"): (2.0, 10.0)}


@pytest.mark.parametrize("text", [None, "{", "[]", '{"nme": 1}'])
def test_another_folder_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match="is not the output of ldeq evaluate on videos"):
        ranking.read(tmp_path)


def test_other_settings_are_refused():
    with pytest.raises(UserError, match="2 settings in common"):
        ranking.report(TRUTH, dict(list(TRUTH.items())[:2]), "made", 0.5)


def test_error_and_flicker_have_ranks_of_their_own():
    other = {key: ranking.Score(-score.nme, score.nmf) for key, score in TRUTH.items()}
    found = ranking.agreement(TRUTH, other)
    assert (found.nme, found.nmf) == pytest.approx((-1.0, 1.0))
