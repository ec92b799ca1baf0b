"""Laws of the measures of videos, and agreement with the released model's evaluation."""

import pathlib

import numpy as np
import pytest

from ldeq_jax.face import intervals, metrics, video_metrics

EYES = (60, 72)
GOLDENS = pathlib.Path(__file__).parent / "goldens" / "video_metrics.npz"
MEASURES = {
    "nme": lambda *video, **options: video_metrics.video_nme(*video, **options),
    "nme_eyes": lambda *video, **options: video_metrics.video_nme(
        *video, eye_corners=EYES, **options
    ),
    "nmf": video_metrics.nmf,
    "nad": lambda *video, **options: video_metrics.nad(*video, [1, 2, 3], **options),
}
measures = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


@pytest.fixture
def videos():
    """Three videos of 12 frames: predicted, target and a mask with a gap."""
    rng = np.random.default_rng(4)
    target = rng.uniform(0, 200, (3, 1, 98, 2)) + rng.normal(0, 5, (3, 12, 98, 2))
    mask = np.ones((3, 12), bool)
    mask[1, 7] = False
    return target + rng.normal(0, 4, target.shape), target, mask


def still(frames, width=50.0, height=128.0, points=98):
    """One video of a face that keeps still in a box of width x height, (1, T, K, 2)."""
    face = np.random.default_rng(6).uniform(0, 1, (points, 2))
    face = (face - face.min(axis=0)) / np.ptp(face, axis=0) * [width, height]
    return np.tile(face, (1, frames, 1, 1)), np.ones((1, frames), bool)


@pytest.fixture(scope="module")
def goldens():
    """Clips of 40, 25 and 33 frames as one padded batch, and their NME and NMF in percent."""
    with np.load(GOLDENS) as stored:
        clips = [[stored[f"video{i}/{name}"] for name in ("predicted", "target")] for i in range(3)]
        expected = stored["video/nme_nmf"]
    points, mask = np.full((2, 3, 40, 98, 2), np.nan), np.zeros((3, 40), bool)
    for i, clip in enumerate(clips):
        length = len(clip[0])
        points[:, i, :length] = clip
        mask[i, :length] = True
    return points[0], points[1], mask, expected


@pytest.mark.parametrize("landmarks", [None, [60, 3, 72, 5]])
def test_means_over_landmarks_are_the_measures_of_the_video(videos, landmarks):
    found = video_metrics.by_landmark(*videos, eye_corners=EYES, landmarks=landmarks)
    counted = list(range(98)) if landmarks is None else landmarks
    nme = video_metrics.video_nme(*videos, eye_corners=EYES, landmarks=landmarks)
    np.testing.assert_allclose(found[:, counted, 0].mean(axis=1), nme)
    nmf = video_metrics.nmf(*videos, landmarks=landmarks)
    np.testing.assert_allclose(np.sqrt(np.square(found[:, counted, 1]).mean(axis=1)), nmf)
    assert np.isnan(np.delete(found, counted, axis=1)).all()


def test_each_landmark_has_its_own_error_and_flicker(videos):
    predicted, target, mask = videos
    predicted = target.copy()
    predicted[0, :, 7] += [3, 4]
    predicted[1, ::2, 9] += [3, 4]
    found = video_metrics.by_landmark(predicted, target, mask, eye_corners=EYES)
    assert found[0, 7, 0] > 0 and found[0, 7, 1] == pytest.approx(0, abs=1e-9)
    assert found[1, 9].min() > 0 and not found[2].any()
    found[0, 7], found[1, 9] = 0, 0
    np.testing.assert_allclose(found, 0, atol=1e-9)


def test_nme_and_nmf_agree_with_the_released_evaluation(goldens):
    *video, expected = goldens
    nme = 100 * video_metrics.video_nme(*video, eye_corners=EYES)
    np.testing.assert_allclose(nme, expected[:, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(video_metrics.nmf(*video), expected[:, 1], rtol=0, atol=1e-9)


def test_nme_is_the_mean_of_that_of_the_frames(videos):
    predicted, target, mask = videos
    frames = [metrics.nme(p, t, EYES) for p, t in zip(predicted, target, strict=True)]
    expected = [errors[kept].mean() for errors, kept in zip(frames, mask, strict=True)]
    found = video_metrics.video_nme(predicted, target, mask, eye_corners=EYES)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_an_error_that_stays_has_its_length_and_no_flicker():
    target, mask = still(9)
    video = target + [3.0, 4.0], target, mask
    np.testing.assert_allclose(video_metrics.video_nme(*video), 5 / 80, rtol=1e-12)
    np.testing.assert_allclose(video_metrics.nmf(*video), 0, atol=1e-9)
    np.testing.assert_allclose(video_metrics.nad(*video, [1, 2, 4]), 0, atol=1e-14)


def test_an_error_that_swings_flickers_by_its_swing():
    target, mask = still(9)
    swing = np.where(np.arange(9) % 2, 1.0, -1.0)[:, None, None] * [1.5, 2.0]
    video = target + swing, target, mask
    steps = video_metrics.flicker(*video)
    assert np.isnan(steps[0, 0])
    np.testing.assert_allclose(steps[0, 1:], 100 * 5 * 256 / 80, rtol=1e-12)
    np.testing.assert_allclose(video_metrics.nmf(*video), 1600, rtol=1e-12)
    np.testing.assert_allclose(video_metrics.nad(*video, [2, 4]), 0, atol=1e-14)


def test_the_later_frame_gives_a_step_its_size():
    target, mask = still(6)
    growth = 1 + np.arange(6.0)
    target *= growth[:, None, None]
    predicted = target + np.arange(6)[:, None, None] * [0.0, 2.0]
    steps = video_metrics.flicker(predicted, target, mask)
    np.testing.assert_allclose(steps[0, 1:], 100 * 2 * 256 / (80 * growth[1:]), rtol=1e-10)


def test_landmarks_and_frames_are_averaged_as_squares():
    target, mask = still(3, points=4)
    predicted = target.copy()
    predicted[0, 1, 0, 0] += 8
    predicted[0, 2, 0, 0] += 8
    predicted[0, 2, 1, 1] += 6
    unit = 100 * 256 / 80
    steps = video_metrics.flicker(predicted, target, mask)
    np.testing.assert_allclose(steps[0, 1:], [unit * 4, unit * 3], rtol=1e-10)
    found = video_metrics.nmf(predicted, target, mask)
    np.testing.assert_allclose(found, unit * np.sqrt(12.5), rtol=1e-10)


def test_nmf_is_the_rms_of_the_flicker_that_is_there(videos):
    steps = video_metrics.flicker(*videos)
    assert steps.shape == (3, 12)
    missing = np.zeros((3, 12), bool)
    missing[:, 0] = missing[1, 7:9] = True
    np.testing.assert_array_equal(np.isnan(steps), missing)
    np.testing.assert_allclose(
        video_metrics.nmf(*videos), np.sqrt(np.nanmean(np.square(steps), axis=1)), rtol=1e-12
    )


def test_motion_of_the_face_is_no_flicker(videos):
    predicted, target, mask = videos
    path = np.cumsum(np.random.default_rng(9).normal(0, 9, (3, 12, 1, 2)), axis=1)
    for measure in MEASURES.values():
        np.testing.assert_allclose(
            measure(predicted + path, target + path, mask), measure(*videos), rtol=1e-9
        )


@measures
def test_resolution_changes_nothing(measure, videos):
    predicted, target, mask = videos
    found = measure(2.7 * predicted, 2.7 * target, mask)
    np.testing.assert_allclose(found, measure(*videos), rtol=1e-10)


def test_nad_at_lag_1_is_nmf_but_for_a_constant():
    target, mask = still(20)
    predicted = target + np.random.default_rng(2).normal(0, 3, target.shape)
    mask[0, 8] = False
    expected = video_metrics.nmf(predicted, target, mask) / (25600 * np.sqrt(2))
    np.testing.assert_allclose(
        video_metrics.nad(predicted, target, mask, [1])[:, 0], expected, rtol=1e-9
    )


def test_nad_of_noise_falls_as_the_root_of_the_lag():
    target, mask = still(4000, points=40)
    predicted = target + np.random.default_rng(2).normal(0, 3, target.shape)
    lags = np.array([1, 2, 4, 8, 16])
    expected = np.sqrt(2 * 3**2 / lags) / 80
    np.testing.assert_allclose(
        video_metrics.nad(predicted, target, mask, lags)[0], expected, rtol=0.03
    )


def test_nad_of_drift_grows_as_the_lag():
    target, mask = still(60)
    predicted = target + np.arange(60)[:, None, None] * [0.3, 0.4]
    lags = np.array([1, 2, 5, 10, 30])
    expected = lags * 0.5 / np.sqrt(2) / 80
    np.testing.assert_allclose(
        video_metrics.nad(predicted, target, mask, lags)[0], expected, rtol=1e-9
    )


@pytest.mark.parametrize("lag", [1, 2, 3, 4])
def test_nad_is_its_definition(lag, videos):
    predicted, target, mask = videos
    mask[2, [0, 5]] = False
    expected = []
    for p, t, counted in zip(predicted, target, mask, strict=True):
        error = (p - t) / np.sqrt(np.ptp(t, axis=1).prod(axis=-1))[:, None, None]
        steps = [
            error[i + lag : i + 2 * lag].mean(axis=0) - error[i : i + lag].mean(axis=0)
            for i in range(12 - 2 * lag + 1)
            if counted[i : i + 2 * lag].all()
        ]
        each = np.sqrt(np.square(steps).sum(axis=-1).mean(axis=0) / 2) if steps else [np.nan]
        expected.append(np.sqrt(np.mean(np.square(each))))
    found = video_metrics.nad(predicted, target, mask, [lag])
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-9)
    assert np.isnan(found[2, 0]) == (lag == 4)  # six frames in a row, at most


@measures
def test_chosen_landmarks_alone_count_and_all_give_the_size(measure, videos):
    predicted, target, mask = videos
    chosen = [3, 60, 9, 41]
    found = measure(*videos, landmarks=chosen)
    rest = np.setdiff1d(np.arange(98), chosen)
    predicted[:, :, rest] = np.nan
    np.testing.assert_array_equal(measure(predicted, target, mask, landmarks=chosen), found)
    predicted[:, :, rest] = target[:, :, rest]  # a landmark without error adds to the count alone
    power = 1 if measure in (MEASURES["nme"], MEASURES["nme_eyes"]) else 1 / 2
    whole = measure(predicted, target, mask)
    np.testing.assert_allclose(found * (4 / 98) ** power, whole, rtol=1e-10)


@measures
@pytest.mark.parametrize("filling", [0.0, np.nan, np.inf, 1e200])
def test_padding_changes_no_bit(measure, filling, videos):
    predicted, target, mask = videos
    alone = [measure(*(part[i : i + 1] for part in videos))[0] for i in range(3)]
    padded = np.full((2, 5, 19, 98, 2), filling)
    padded[:, :3, :12] = predicted, target
    padded[:, 1, 7] = filling
    frames = np.zeros((5, 19), bool)
    frames[:3, :12] = mask
    found = measure(*padded, frames)
    np.testing.assert_array_equal(found[:3], alone)
    assert np.isnan(found[3:]).all()


@measures
def test_a_nan_that_counts_takes_its_video_away(measure, videos):
    predicted, target, mask = videos
    mask[2] = np.arange(12) != 10  # leaves the last frame by itself
    expected = measure(*videos)
    predicted[0, 3, 17, 1] = np.nan
    predicted[2, 11] = np.inf
    found = measure(predicted, target, mask)
    np.testing.assert_array_equal(found[1], expected[1])
    assert np.isfinite(expected).all()
    assert np.isnan(found[[0, 2]]).all()


def test_too_short_a_video_has_no_flicker(videos):
    predicted, target, mask = videos
    mask[0] = np.arange(12) == 4
    mask[1] = np.arange(12) % 2 == 0
    mask[2] = np.isin(np.arange(12), [4, 5])
    assert np.isnan(video_metrics.nmf(*videos)).tolist() == [True, True, False]
    assert np.isnan(video_metrics.nad(*videos, [1, 2])).tolist() == [[1, 1], [1, 1], [0, 1]]
    assert np.isnan(video_metrics.nad(*videos, [6, 7, 50])).all()
    assert np.isfinite(video_metrics.video_nme(*videos)).all()
    none = predicted[:, :0], target[:, :0], mask[:, :0]
    assert video_metrics.flicker(*none).shape == (3, 0)
    assert np.isnan(video_metrics.nmf(*none)).all()
    assert video_metrics.nmf(predicted[:0], target[:0], mask[:0]).shape == (0,)


@measures
def test_videos_that_cannot_be_measured_are_refused(measure, videos):
    predicted, target, mask = videos
    with pytest.raises(ValueError, match="one shape"):
        measure(predicted[:, :-1], target, mask)
    with pytest.raises(ValueError, match="one shape"):
        measure(predicted[0], target[0], mask[0])
    with pytest.raises(ValueError, match="mask of shape"):
        measure(predicted, target, mask[:, :-1])
    with pytest.raises(ValueError, match="no landmark counts"):
        measure(predicted, target, mask, landmarks=[])
    target[2, 5] = target[2, 5, :1]
    with pytest.raises(ValueError, match="video 2, frame 5 has no size"):
        measure(predicted, target, mask)
    mask[2, 5] = False
    assert np.isfinite(measure(predicted, target, mask)).all()


@pytest.mark.parametrize("lags", [[], [0], [1, -2], [1.5], 3])
def test_lags_are_whole_frames(lags, videos):
    with pytest.raises(ValueError, match="whole numbers"):
        video_metrics.nad(*videos, lags)


def test_smooth_motion_of_the_labels_is_no_jitter():
    target, mask = still(30)
    t = np.arange(30.0)[:, None, None]
    moving = target + [3.0, -1.0] * t + [0.1, 0.2] * t**2
    np.testing.assert_allclose(video_metrics.label_jitter(moving, mask), 0, atol=1e-8)
    jolting = moving + [0.01, 0.0] * t**3
    assert video_metrics.label_jitter(jolting, mask)[0] > 1


def test_jitter_of_the_labels_is_the_flicker_it_adds():
    target, mask = still(3000, points=40)
    rng = np.random.default_rng(8)
    labels = target + rng.normal(0, 0.5, target.shape)
    jitter = video_metrics.label_jitter(labels, mask)
    np.testing.assert_allclose(jitter, 25600 / 80 * 0.5 * 2, rtol=0.05)  # noise widens the box
    np.testing.assert_allclose(jitter, video_metrics.nmf(target, labels, mask), rtol=0.01)
    predicted = target + rng.normal(0, 0.7, target.shape)
    whole, own = (
        video_metrics.nmf(predicted, labels, mask),
        video_metrics.nmf(predicted, target, mask),
    )
    np.testing.assert_allclose(np.sqrt(whole**2 - jitter**2), own, rtol=0.06)


def test_jitter_is_its_definition(videos):
    _, target, mask = videos
    mask[0, [4, 9]] = False
    chosen = [5, 60, 7]
    expected = []
    for points, counted in zip(target, mask, strict=True):
        sizes = np.sqrt(np.ptp(points, axis=1).prod(axis=-1))
        terms = [
            np.square(points[t] - 3 * points[t - 1] + 3 * points[t - 2] - points[t - 3])
            * (25600 / sizes[t]) ** 2
            for t in range(3, 12)
            if counted[t - 3 : t + 1].all()
        ]
        # Variances 20 to 2 of each coordinate, and both coordinates make a flicker.
        expected.append(np.sqrt(np.mean(np.array(terms)[:, chosen].sum(axis=-1)) * 2 / 20))
    found = video_metrics.label_jitter(target, mask, landmarks=chosen)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(
        video_metrics.label_jitter(2.7 * target, mask, landmarks=chosen), found, rtol=1e-10
    )


@pytest.mark.parametrize("filling", [0.0, np.nan, np.inf, 1e200])
def test_padding_changes_no_bit_of_the_jitter(filling, videos):
    _, target, mask = videos
    alone = [video_metrics.label_jitter(target[i : i + 1], mask[i : i + 1])[0] for i in range(3)]
    padded = np.full((4, 19, 98, 2), filling)
    padded[:3, :12] = target
    padded[1, 7] = filling
    frames = np.zeros((4, 19), bool)
    frames[:3, :12] = mask
    found = video_metrics.label_jitter(padded, frames)
    np.testing.assert_array_equal(found, [*alone, np.nan])


def test_jitter_needs_four_frames_in_a_row(videos):
    _, target, mask = videos
    mask[0] = np.arange(12) % 4 > 0
    mask[1] = np.arange(12) % 5 > 0
    assert np.isnan(video_metrics.label_jitter(target, mask)).tolist() == [True, False, False]
    for frames in range(4):
        found = video_metrics.label_jitter(target[:, :frames], mask[:, :frames])
        assert found.shape == (3,) and np.isnan(found).all()
    target[1, 11, 3] = np.nan  # a frame by itself, but one that counts
    assert np.isnan(video_metrics.label_jitter(target, mask)).tolist() == [True, True, False]


@pytest.fixture
def results():
    """NMF of 60 videos by two methods; the second is lower by some 15 %."""
    rng = np.random.default_rng(12)
    first = rng.gamma(3, 40, 60)
    return first, 0.85 * first * rng.lognormal(0, 0.1, 60)


def test_the_change_is_that_of_the_means_within_its_interval(results):
    first, second = results
    change = intervals.paired_bootstrap(first, second)
    assert change.absolute.value == pytest.approx(second.mean() - first.mean(), rel=1e-12)
    assert change.relative.value == pytest.approx(second.mean() / first.mean() - 1, rel=1e-12)
    for interval in change:
        assert interval.low < interval.value < interval.high < 0


def test_the_interval_of_the_mean_is_the_normal_one(results):
    first, second = results
    absolute = intervals.paired_bootstrap(first, second, num_samples=20_000).absolute
    half = 1.96 * np.std(second - first) / np.sqrt(60)
    middle = np.mean(second - first)
    np.testing.assert_allclose(absolute[1:], [middle - half, middle + half], atol=0.1 * half)


def test_videos_stay_paired(results):
    first, _ = results
    change = intervals.paired_bootstrap(first, 0.8 * first)
    np.testing.assert_allclose(change.relative, -0.2, rtol=1e-12)
    change = intervals.paired_bootstrap(first, first - 7)
    np.testing.assert_allclose(change.absolute, -7, rtol=1e-12)


def test_a_method_against_itself_changes_nothing(results):
    first, _ = results
    change = intervals.paired_bootstrap(first, first)
    np.testing.assert_array_equal(change, np.zeros((2, 3)))


def test_the_change_takes_the_unit_of_the_results(results):
    first, second = results
    change = intervals.paired_bootstrap(first, second)
    scaled = intervals.paired_bootstrap(100 * first, 100 * second)
    np.testing.assert_allclose(scaled.absolute, 100 * np.array(change.absolute), rtol=1e-9)
    np.testing.assert_allclose(scaled.relative, change.relative, rtol=1e-9)


def test_more_confidence_is_wider_and_the_seed_decides(results):
    sure = intervals.paired_bootstrap(*results, confidence=0.99).relative
    usual = intervals.paired_bootstrap(*results).relative
    assert sure.low < usual.low < usual.high < sure.high
    assert intervals.paired_bootstrap(*results).relative == usual
    assert intervals.paired_bootstrap(*results, seed=1).relative != usual


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(15)
    held = 0
    for _ in range(500):
        first = rng.gamma(2, 50, 100)
        second = 0.85 * first * rng.lognormal(-(0.15**2) / 2, 0.15, 100)
        interval = intervals.paired_bootstrap(
            first, second, confidence=0.8, num_samples=400
        ).relative
        held += interval.low <= -0.15 <= interval.high
    assert held / 500 == pytest.approx(0.8, abs=0.05)


def test_few_videos_widen_the_interval_to_hold_the_truth_nearly_as_often():
    rng = np.random.default_rng(16)
    held = np.zeros(2)
    for _ in range(300):
        first = rng.lognormal(5, 0.8, 8)
        second = 0.85 * first * rng.lognormal(-(0.3**2) / 2, 0.3, 8)
        change = intervals.paired_bootstrap(first, second, num_samples=300)
        expected = -0.15 * np.exp(5 + 0.8**2 / 2), -0.15
        held += [low <= e <= high for (_, low, high), e in zip(change, expected, strict=True)]
    # Plain percentile intervals hold it in 82 to 85 %.
    assert (held / 300 > 0.86).all()


def test_an_interval_of_skewed_results_is_skewed():
    first = np.r_[np.full(11, 100.0), 400.0]
    second = first * np.r_[np.full(11, 0.9), 0.3]
    value, low, high = intervals.paired_bootstrap(first, second).absolute
    assert value - low > 2 * (high - value)


def test_no_interval_without_results_to_draw_from():
    unknown = np.full((2, 3), np.nan)
    np.testing.assert_array_equal(intervals.paired_bootstrap([1, np.nan, 2], [1, 2, 3]), unknown)
    np.testing.assert_array_equal(intervals.paired_bootstrap([1, 2, 3], [1, np.inf, 2]), unknown)
    np.testing.assert_array_equal(intervals.paired_bootstrap([], []), unknown)
    change = intervals.paired_bootstrap([4.0], [3.0])
    np.testing.assert_array_equal(change, [[-1, np.nan, np.nan], [-0.25, np.nan, np.nan]])
    change = intervals.paired_bootstrap([0.0, 0.0], [1.0, 1.0])
    np.testing.assert_array_equal(change, [[1, 1, 1], [np.nan] * 3])


def test_results_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="same videos"):
        intervals.paired_bootstrap([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="same videos"):
        intervals.paired_bootstrap([[1.0, 2.0]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="between 0 and 1"):
        intervals.paired_bootstrap([1.0, 2.0], [1.0, 2.0], confidence=95)
