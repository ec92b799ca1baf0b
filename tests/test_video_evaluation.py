"""Evaluation on video: what counts, what is chosen and what is written, for made-up tracks."""

import collections
import copy
import csv
import dataclasses
import json
import re
import types

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from pages import Page
from test_inference import MODEL
from test_videos import POINTS, ToyVideos, clip

from ldeq_jax.config import Config
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.sources import VideoSource
from ldeq_jax.data.videos import video_chunks
from ldeq_jax.evaluation import evaluate as evaluation
from ldeq_jax.evaluation import motion, video_tables, videos
from ldeq_jax.evaluation import scores as scoring
from ldeq_jax.evaluation.choice import choose
from ldeq_jax.evaluation.faces import FaceOptions
from ldeq_jax.evaluation.labels import Labels
from ldeq_jax.evaluation.measured import Measured, Split
from ldeq_jax.evaluation.scores import LAGS, Scores
from ldeq_jax.evaluation.settings import ALONE, Setting, recurrence_grid
from ldeq_jax.evaluation.video_results import VideoResults
from ldeq_jax.evaluation.videos import VideoOptions
from ldeq_jax.face import fidelity, video_metrics
from ldeq_jax.face.filters import FILTERS, smooth
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.inference.videos import FrameInfo
from ldeq_jax.model.rwr import RwRConfig

SCHEMA = LandmarkSchema(
    name="own_7",
    num_landmarks=POINTS,
    flip_permutation=(1, 0, 2, 3, 4, 5, 6),
    eye_corners=(0, 1),
)
LENGTHS = {
    "tuning": {"p": 12, "q": 36, "w": 5},
    "test": {"films/r": 14, "s": 8, "t": 10, "u": 10, "v": 1, "x": 40},
    "hopeless": {"y": 1, "z": 4},
}
EASY = {"films/r", "s", "w"}
LOST = {"t": 3, "u": 3, "z": 2}  # a frame without a box
UNLABELLED = {"u": 3, "x": 20}
EXCLUDED = {"x": 26}  # a frame with labels that do not count


def annotation(name, length):
    """Landmarks, boxes and mask of a face that moves."""
    rng = np.random.default_rng(sum(map(ord, name)))
    face = [[-20, -10], [20, -9], [0, 0], [-9, 9], [9, 10], [0, 14], [1, 20]]
    face = face + rng.normal(0, 0.3, (length, POINTS, 2))
    landmarks = face + [48, 34] + rng.normal(0, 1, (length, 1, 2)).cumsum(axis=0)
    boxes = np.concatenate([landmarks.min(axis=1), landmarks.max(axis=1)], axis=-1)
    if name in LOST:
        boxes[LOST[name]] = np.nan
    if name in UNLABELLED:
        landmarks[UNLABELLED[name]] = np.nan
    mask = np.isfinite(landmarks).all(axis=(1, 2))
    if name in EXCLUDED:
        landmarks[EXCLUDED[name]] += 60
        mask[EXCLUDED[name]] = False
    return landmarks.astype(np.float32), boxes.astype(np.float32), mask


class ToyClips(ToyVideos):
    """Clips with labels of a face, in three splits."""

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, of) for split, of in LENGTHS.items()}

    def _generate_examples(self, split, lengths):
        for name, length in lengths.items():
            landmarks, boxes, mask = annotation(name, length)
            path = self.pkg_dir_path / f"{name.replace('/', '_')}.mp4"
            yield (
                name,
                {
                    "video": clip(path, length),
                    "landmarks": landmarks,
                    "boxes": boxes,
                    "mask": mask,
                    "fps": 12.5,
                    "attributes": [name in EASY, True],
                    "name": name,
                },
            )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    ToyClips.pkg_dir_path = folder
    ToyClips(data_dir=folder, file_format="array_record").download_and_prepare()
    return DataConfig(
        name="toy_clips", data_dir=str(folder), crop="extent", batch_size=4, schema=SCHEMA
    )


@pytest.fixture(scope="module")
def config(data):
    return Config(model=dataclasses.replace(MODEL, num_landmarks=POINTS), data=data)


@pytest.fixture(scope="module")
def splits(data):
    return {name: split_of(data, name) for name in LENGTHS}


def split_of(data, name):
    return Split(VideoSource(data.name, name, data.data_dir), SCHEMA.eye_corners)


def with_video(split, index, video):
    """The split with another annotation of one of its videos."""
    source = copy.copy(split.source)
    source._annotations = {index: video}
    return Split(source, SCHEMA.eye_corners)


FEWER = ALONE._replace(alone_budget=1)
STEADY, WORSE, DRIFTING = Setting("RwR", "penalty 3"), Setting("RwR", "penalty 1"), "drifting"
RECURRENCES = {
    WORSE: RwRConfig(penalty=1, align="none"),
    STEADY: RwRConfig(penalty=3, align="none"),
    Setting(DRIFTING, "much, very"): RwRConfig(penalty=9),
}
OPTIONS = VideoOptions(recurrences=RECURRENCES, filter_budgets=[1])
measure_split = videos.measure
FEW = tuple(dataclasses.replace(kind, grid=kind.grid[3:5]) for kind in FILTERS[::2])  # quicker


class Fake:
    """Stands in for `run_methods`: labels with the noise of each setting, in pixels."""

    def __init__(self, **fields):
        self.noise = {
            ALONE: 1.0,
            FEWER: 1.2,
            STEADY: 0.5,
            WORSE: 1.5,
            Setting(DRIFTING, "much, very"): 2.0,
        }
        self.constant = 0.0
        self.calls = 0
        self.spoil = lambda setting, name, points: None
        vars(self).update(fields)

    def __call__(self, config, variables, methods, batches, clocks):
        self.calls += 1
        assert list(clocks) == list(methods)
        split = variables
        assert config.data.name == "toy_clips" and batches.desc == split.source.where
        batches.close()
        for index in reversed(range(len(split))):
            yield index, {s: self.track(split, index, s) for s in methods}

    def track(self, split, index, setting):
        video, _ = split.video(index)
        name, length = video["name"], len(video["mask"])
        known = np.isfinite(video["boxes"]).all(axis=1)
        points, _, _ = annotation(name, length)
        rng = np.random.default_rng([index, round(10 * self.noise[setting])])
        points = points + rng.normal(0, self.noise[setting], points.shape) + self.constant
        points[~known] = np.nan
        # There is something to be seen in frames without labels.
        points[known & ~video["mask"]] = 40.0
        self.spoil(setting, name, points)
        evaluations = np.where(known, {ALONE: 6, FEWER: 2}.get(setting, 1), 0)
        if setting == WORSE:
            evaluations[1:] += known[1:]
        ends = np.full((3, POINTS, 2), np.nan)
        points = np.concatenate([points, ends])
        return Landmarks(
            points=points,
            spread=points[..., 0],
            ok=np.isfinite(points).all(axis=(1, 2)),
            info=FrameInfo(np.append(evaluations, [0, 0, 0]), None, None),
        )


def measured(monkeypatch, config, split, fake=None, options=OPTIONS, **labels):
    monkeypatch.setattr(videos, "run_methods", fake or Fake())
    monkeypatch.setattr(scoring, "FILTERS", FEW)
    labels = Labels(**({"schema": SCHEMA} | labels))
    return videos.measure(config, split, split, options, labels)


def expected_scores(split, index, points):
    video = split.video(index)[0]
    pair = points[None], np.float64(video["landmarks"])[None], video["mask"][None]
    return (
        video_metrics.video_nme(*pair, eye_corners=(0, 1))[0],
        video_metrics.video_nme(*pair)[0],
        video_metrics.nmf(*pair)[0],
        video_metrics.nad(*pair, LAGS)[0],
    )


# What is measured.


def test_each_setting_is_scored_on_each_video(monkeypatch, config, splits):
    split, fake = splits["test"], Fake()
    found = measured(monkeypatch, config, split, fake)
    names = [split.source.names[index] for index in found.indices]
    assert set(names) == {"films/r", "s", "u", "x"} and sorted(found.left_out) == ["t", "v"]
    kinds = [(kind, p) for kind in FEW for p in kind.grid]
    causal = [(kind, parameters) for kind, parameters in kinds if kind.causal]
    assert (len(kinds), len(causal)) == (6, 4) and len(found.scores) == 5 + 6 + 4
    for row, index in enumerate(found.indices):
        length = len(split.video(index)[0]["mask"])
        tracks = {s: fake.track(split, index, s).points[:length] for s in fake.noise}
        for budget, tried in ((None, kinds), (1, causal)):
            alone = tracks[ALONE._replace(alone_budget=budget)]
            known = alone[np.isfinite(alone).all(axis=(1, 2))][0]
            size = np.sqrt(np.ptp(known, axis=0).prod())
            for kind, parameters in tried:
                values = ", ".join(f"{key} {value:g}" for key, value in parameters.items())
                points = smooth(alone, kind.function, parameters, 12.5, scale=size)
                tracks[Setting(kind.name, values, budget)] = points
        assert set(tracks) == set(found.scores)
        for setting, points in tracks.items():
            scores = found.scores[setting]
            for field, value in zip(scores, expected_scores(split, index, points), strict=False):
                np.testing.assert_allclose(field[row], value, rtol=1e-9)
        target, mask = split.video(index)[0]["landmarks"][None], split.video(index)[0]["mask"][None]
        np.testing.assert_array_equal(
            found.jitter[row], video_metrics.label_jitter(target, mask)[0]
        )
    assert found.mean_jitter == pytest.approx(found.jitter.mean())


def test_evaluations_are_those_of_frames_with_a_face(monkeypatch, config, splits):
    found = measured(monkeypatch, config, splits["test"])
    row = [splits["test"].source.names[index] for index in found.indices].index("u")
    evaluations = {s: scores.num_evaluations[row] for s, scores in found.scores.items()}
    assert evaluations[ALONE] == 6 and evaluations[STEADY] == 1
    assert evaluations[WORSE] == pytest.approx((1 + 8 * 2) / 9)
    assert evaluations[Setting("exponential", "weight 0.7")] == 6
    assert evaluations[Setting("exponential", "weight 0.7", 1)] == evaluations[FEWER] == 2


def test_only_the_videos_to_be_shown_are_kept(monkeypatch, config, splits):
    assert measured(monkeypatch, config, splits["test"]).tracks == {}
    options = dataclasses.replace(OPTIONS, shown=["t", "elsewhere"])
    tracks = measured(monkeypatch, config, splits["test"], options=options).tracks
    assert list(tracks) == ["t"]
    assert tracks["t"][STEADY].shape == (10, POINTS, 2)


@pytest.mark.parametrize("batch_size, frames", [(1, 3), (2, 4), (4, 100), (9, 7)])
def test_the_number_of_chunks_is_known(data, splits, batch_size, frames):
    data = dataclasses.replace(data, batch_size=batch_size)
    for name in ("hopeless", "tuning+hopeless"):
        split = split_of(data, name)
        chunks = video_chunks(split.source, data, 8, chunk_frames=frames)
        assert split.num_chunks(batch_size, frames) == sum(1 for _ in chunks)


def test_the_bar_knows_its_end(monkeypatch, config, splits):
    totals = []

    class Watching(Fake):
        def __call__(self, config, variables, methods, batches, clocks):
            totals.append(batches.total)
            yield from super().__call__(config, variables, methods, batches, clocks)

    options = dataclasses.replace(OPTIONS, chunk_frames=5)
    measured(monkeypatch, config, splits["tuning"], Watching(), options)
    assert totals == [8]  # the longest of one group: 36 frames


def test_amplitude_and_lag_are_those_of_the_motion(monkeypatch, config, splits):
    """One method is a frame late, another shows 80 % of the motion; the others follow it."""

    class Late(Fake):
        def track(self, split, index, setting):
            track = super().track(split, index, setting)
            points = track.points.copy()
            if setting == STEADY:
                points[1:] = points[:-1].copy()
            elif setting == WORSE:
                centre = points.mean(axis=1, keepdims=True)
                points += 0.8 * centre + 8 - centre
            return dataclasses.replace(track, points=points)

    fake = Late(noise=dict.fromkeys(Fake().noise, 0.1))
    found = measured(monkeypatch, config, splits["tuning"], fake)
    names = [splits["tuning"].source.names[index] for index in found.indices]
    row, head = names.index("q"), fidelity.SIGNALS.index("head")
    measures = {s: (f.amplitude[row, head], f.lag[row, head]) for s, f in found.scores.items()}
    np.testing.assert_allclose(measures[ALONE], [1, 0], atol=0.02)
    np.testing.assert_allclose(measures[STEADY], [1, 1 / 12.5], atol=0.02)
    np.testing.assert_allclose(measures[WORSE], [0.8, 0], atol=0.02)
    assert measures[Setting("exponential", "weight 0.7")][1] > 0.01
    assert np.isnan(found.scores[ALONE].amplitude[:, :2]).all(), "no lips and lids are known"
    assert found.motion[names.index("w")].tolist() == [0, 0, 0], "five frames are too few"
    means = motion.motion_means(found, STEADY)
    assert 70 < means["head_lag_ms"] < 90 and np.isnan(means["mouth_amplitude"])
    assert 70 < means["head_delay_ms"] < 90 and means["head_kept"] == pytest.approx(1, abs=0.02)
    assert motion.motion_means(found, WORSE)["head_kept"] == pytest.approx(0.8, abs=0.02)
    rows = cells(motion.motion_table(found, [ALONE, STEADY]))
    kept, delay = "head, of alone (%)", "head, after alone (ms)"
    assert list(rows["RwR"]) == ["method", "NMF", "head", kept, "head lag (ms)", delay]
    assert rows[ALONE.name][kept] == rows[ALONE.name][delay] == "-"
    for text, key in ((kept, 100 * means["head_kept"]), (delay, means["head_delay_ms"])):
        value, low, high = map(float, re.findall(r"-?\d+\.\d", rows["RwR"][text]))
        assert value == pytest.approx(key, abs=0.051) and low <= value <= high
    still = found._replace(motion=0 * found.motion)
    assert motion.motion_table(still, [ALONE]) == "" and motion.videos_with_motion(still) == {}


# What counts.


def test_a_method_that_leaves_a_frame_out_has_no_means(monkeypatch, config, splits):
    def spoil(setting, name, points):
        if setting == STEADY and name == "s":
            points[4] = np.nan
        if name == "t":
            points[2] = np.nan  # in a video that is left out anyway

    whole = measured(monkeypatch, config, splits["test"])
    found = measured(monkeypatch, config, splits["test"], Fake(spoil=spoil))
    assert found.indices.tolist() == whole.indices.tolist()
    for before, after in zip(record(whole), record(found), strict=True):
        if after["setting"] != STEADY.values:
            np.testing.assert_equal(after, before)
        else:
            means = [value for key, value in after.items() if key[:2] in ("nm", "na", "ev")]
            assert len(means) == 4 + len(LAGS) and np.isnan(means).all()
    assert found.scores[STEADY].nme[0] == whole.scores[STEADY].nme[0]


def record(found, settings=None):
    rows = video_tables.setting_rows(found, settings)
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


def test_means_are_over_the_videos_that_count(monkeypatch, config, splits):
    found = measured(monkeypatch, config, splits["test"])
    rows = {row["setting"] or row["method"]: row for row in record(found)}
    scores, row = found.scores[WORSE], rows["penalty 1"]
    assert row["videos"] == 4 and row["nmf"] == pytest.approx(scores.nmf.mean())
    assert row["nme_percent"] == pytest.approx(100 * scores.nme.mean())
    assert row["nme_face_percent"] == pytest.approx(100 * scores.nme_face.mean())
    # A deviation at lag 8 needs 16 frames in a row: only one video has them.
    assert np.isfinite(scores.nad[:, 3]).sum() == 1
    assert row["nad_8"] == np.nanmax(scores.nad[:, 3]) and np.isnan(row["nad_16"])
    assert [row["setting"] for row in record(found, [WORSE])] == ["penalty 1"]


@pytest.mark.parametrize("face", ["point", "line", "eyes"])
def test_a_frame_whose_labels_have_no_size_is_left_out(monkeypatch, config, splits, face):
    split = splits["test"]
    at = split.source.names.index("s")
    flat, unlabelled = (dict(split.video(at)[0]) for _ in range(2))
    for video in (flat, unlabelled):
        video.update({name: video[name].copy() for name in ("landmarks", "mask")})
    if face == "eyes":
        flat["landmarks"][5, 0] = flat["landmarks"][5, 1]
    else:
        flat["landmarks"][5, :, int(face == "line") :] = 7.0
    unlabelled["mask"][5] = False

    def spoil(setting, name, points):
        if name == "s":
            points[5] = 40.0  # filters see what is predicted there

    found, expected = (
        measured(
            monkeypatch,
            config,
            with_video(split, at, video),
            Fake(spoil=spoil),
            options=dataclasses.replace(OPTIONS, remove_offset=True),
        )
        for video in (flat, unlabelled)
    )
    assert (found.frames_left_out, expected.frames_left_out) == ({"s": 1}, {})
    np.testing.assert_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.labels.offset, expected.labels.offset)
    np.testing.assert_array_equal(found.split.video(at)[0]["mask"], unlabelled["mask"])


def test_a_video_of_labels_without_a_size_is_left_out_by_its_name(monkeypatch, config, splits):
    split = splits["test"]
    at = split.source.names.index("s")
    video, _ = split.video(at)
    video = dict(video, landmarks=np.ones_like(video["landmarks"]))
    found = measured(monkeypatch, config, with_video(split, at, video))
    assert sorted(found.left_out) == ["s", "t", "v"] and found.frames_left_out == {"s": 8}


def test_a_split_that_cannot_be_measured_is_refused(monkeypatch, config, splits):
    with pytest.raises(ValueError, match="no video of toy_clips:hopeless can be measured"):
        measured(monkeypatch, config, splits["hopeless"])


def test_subsets_are_of_attributes_that_some_have(monkeypatch, config, splits):
    found = measured(monkeypatch, config, splits["test"])
    subsets = found.subsets()
    assert list(subsets) == ["easy"], "all are hard"
    easy = [splits["test"].source.names[index] in EASY for index in found.indices]
    assert sum(easy) == 2
    part = subsets["easy"]
    assert part.indices.tolist() == found.indices[easy].tolist()
    assert part.jitter.tolist() == found.jitter[easy].tolist()
    np.testing.assert_array_equal(part.scores[WORSE].nad, found.scores[WORSE].nad[easy])
    assert part.subsets() == {}
    rows = video_tables.subset_table(found, [ALONE, STEADY]).splitlines()
    assert [cell.strip() for cell in rows[0].split("|")[3:5]] == ["NME (%), 2 easy", "NMF, easy"]
    assert f" {100 * part.scores[STEADY].nme.mean():.3f} |" in rows[3]
    assert f" {part.scores[STEADY].nmf.mean():.1f} " in rows[3]
    assert video_tables.subset_table(part, [ALONE]) == ""


# Labels of another scheme.


def test_points_are_compared_with_those_they_are_named_with(monkeypatch, config, splits):
    split, order = splits["test"], [4, 0, 6, 1]

    class Other(Fake):
        def track(self, split, index, setting):
            track = super().track(split, index, setting)
            moved = np.full((len(track.points), 9, 2), 7.0)  # what is not compared
            moved[:, [8, 2, 3, 5]] = track.points[:, order]
            return dataclasses.replace(track, points=moved, spread=moved[..., 0])

    points = dict(zip([8, 2, 3, 5], order, strict=True))
    found = measured(monkeypatch, config, split, Other(), points=points)
    fake = Fake()
    for row, index in enumerate(found.indices):
        video = split.video(index)[0]
        length = len(video["mask"])
        for setting in fake.noise:
            track = fake.track(split, index, setting).points[None, :length]
            pair = track, np.float64(video["landmarks"])[None], video["mask"][None]
            expected = video_metrics.nmf(*pair, landmarks=order)[0]
            np.testing.assert_allclose(found.scores[setting].nmf[row], expected, rtol=1e-9)
            expected = video_metrics.video_nme(*pair, eye_corners=(0, 1), landmarks=order)[0]
            np.testing.assert_allclose(found.scores[setting].nme[row], expected, rtol=1e-9)


def test_an_offset_is_measured_once_and_taken_off_everything(monkeypatch, config, splits):
    options = dataclasses.replace(OPTIONS, remove_offset=True)
    shift = np.random.default_rng(0).normal(0, 3, (POINTS, 2))
    noise = dict.fromkeys(Fake().noise, 0.0)

    class Sized(Fake):
        def track(self, split, index, setting):
            track, target = super().track(split, index, setting), split.video(index)[0]["landmarks"]
            size = np.sqrt(np.ptp(np.float64(target), axis=1).prod(axis=-1))
            size[~np.isfinite(size)] = 1
            track.points[: len(size)] += shift / 30 * size[:, None, None]
            return track

    found = measured(monkeypatch, config, splits["tuning"], Sized(noise=noise), options)
    np.testing.assert_allclose(found.labels.offset, shift / 30, atol=1e-6)
    for setting in noise:
        np.testing.assert_allclose(found.scores[setting].nme, 0, atol=1e-6)
    # Without an offset of its own, another split takes that one; its frames alone are off by more.
    later = measured(
        monkeypatch,
        config,
        splits["test"],
        Sized(noise=noise, constant=2.0),
        options,
        offset=found.labels.offset,
    )
    assert later.labels.offset is found.labels.offset
    video = splits["test"].video(later.indices[0])[0]
    target = np.float64(video["landmarks"])
    expected = video_metrics.video_nme(target[None] + 2, target[None], video["mask"][None])[0]
    np.testing.assert_allclose(later.scores[STEADY].nme_face[0], expected, rtol=1e-5)
    raw = measured(monkeypatch, config, splits["tuning"], Sized(noise=noise))
    assert raw.labels.offset is None and raw.scores[ALONE].nme.min() > 0.01


def test_frames_without_landmarks_have_no_part_in_the_offset(monkeypatch, config, splits):
    options = dataclasses.replace(OPTIONS, remove_offset=True)
    fake = Fake(noise=dict.fromkeys(Fake().noise, 0.0), constant=3.0)
    found = measured(monkeypatch, config, splits["test"], fake, options)
    np.testing.assert_allclose(found.labels.offset, 3 / 35.5, rtol=0.03)


# What is chosen.


def made_up(values):
    """Scores of two videos whose means are the given NME and NMF."""
    scores = {}
    for setting, (nme, nmf) in values.items():
        half = np.array([0.5, 1.5])
        deviation = np.full((2, len(LAGS)), nmf)
        signals = np.full((2, 3), np.nan)
        scores[setting] = Scores(
            nme * half, nme * half, nmf * half, deviation, np.ones(2), signals, signals
        )
    return scores


EXAMPLE = {
    ALONE: (4.0, 100),
    Setting("exponential", "weight 0.9"): (3.9, 90),
    Setting("exponential", "weight 0.5"): (4.1, 60),
    Setting("exponential", "weight 0.2"): (9.0, 50),
    Setting("kalman", "noise_ratio 9"): (4.0, 80),
    Setting("kalman", "noise_ratio 1"): (4.04, 70),
    Setting("gaussian", "sigma 1"): (5.0, 20),
    Setting("gaussian", "sigma 2"): (4.5, 30),
    Setting("RwR", "penalty 1"): (3.0, 50),
    Setting("RwR", "penalty 2"): (3.5, np.nan),
    Setting("RwR", "penalty 4"): (np.nan, 10),
    Setting("RwR, face", "penalty 4"): (3.9, 55),
    Setting("broken", "penalty 4"): (np.nan, np.nan),
}


def test_the_steadiest_setting_that_keeps_the_error_is_chosen():
    choice = choose(made_up(EXAMPLE), 0)
    assert choice.settings == [
        ALONE,
        Setting("exponential", "weight 0.9"),
        Setting("kalman", "noise_ratio 9"),
        Setting("gaussian", "sigma 2"),
        Setting("RwR", "penalty 1"),
        Setting("RwR, face", "penalty 4"),
    ]
    assert choice.above == {Setting("gaussian", "sigma 2")}
    assert choice.best_causal_filter == Setting("kalman", "noise_ratio 9")
    assert choice.recurrence == Setting("RwR", "penalty 1")


def test_slack_admits_more_and_without_a_limit_flicker_alone_decides():
    scores = made_up(EXAMPLE)
    choice = choose(scores, 0.011)
    assert choice.best_causal_filter == Setting("kalman", "noise_ratio 1") in choice.settings
    assert Setting("exponential", "weight 0.9") in choice.settings
    choice = choose(scores, np.inf)
    assert choice.above == set()
    assert choice.best_causal_filter == Setting("exponential", "weight 0.2")
    assert Setting("gaussian", "sigma 1") in choice.settings
    perfect = {s: (0 if s == ALONE else nme, nmf) for s, (nme, nmf) in EXAMPLE.items()}
    assert choose(made_up(perfect), np.inf).settings == choice.settings


def test_a_filter_of_frames_solved_with_fewer_steps_may_be_the_best():
    fewer = ALONE._replace(alone_budget=1)
    quick = Setting("kalman", "noise_ratio 9", 1)
    extra = {fewer: (3.9, 30), quick: (4.0, 20), Setting("gaussian", "sigma 1", 1): (4.0, 10)}
    choice = choose(made_up(EXAMPLE | extra), 0)
    assert choice.best_causal_filter == quick
    assert choice.recurrence == Setting("RwR", "penalty 1"), "frames alone are none"
    names = [setting.name for setting in choice.settings]
    assert names[0] == "each frame alone" and names[4:7] == [
        "each frame alone, budget 1",
        "kalman, budget 1",
        "gaussian, budget 1",
    ]
    scores = made_up(EXAMPLE | extra)
    rows = cells(video_tables.choice_table(of(scores), choice))
    assert "against kalman, budget 1 (%)" in rows["RwR"]


def test_a_filter_that_loses_accuracy_is_not_the_best():
    example = EXAMPLE | {
        Setting("kalman", "noise_ratio 9"): (4.2, 5),
        Setting("kalman", "noise_ratio 1"): (4.3, 4),
    }
    choice = choose(made_up(example), 0)
    assert Setting("kalman", "noise_ratio 9") in choice.above
    assert choice.best_causal_filter == Setting("exponential", "weight 0.9")


def test_without_recurrence_there_is_none_to_choose():
    filters = {s: v for s, v in EXAMPLE.items() if "RwR" not in s.method}
    assert choose(made_up(filters), 0).recurrence is None


def test_a_grid_has_a_family_for_each_way_to_move_the_state():
    grid = recurrence_grid(
        [0, 1],
        [0.5, 2.0],
        [1.0, 0.8],
        ["none", "crop", "face"],
        ["arithmetic", "geometric"],
        RwRConfig(weighting="spread", first_budget=2, fusion="arithmetic"),
    )
    assert collections.Counter(setting.method for setting in grid) == {
        "RwR, early stopping": 2,
        "RwR, as configured": 1,
        "RwR": 4,
        "RwR, state moved by crop": 4,
        "RwR, state moved by face": 8,
        "RwR, state moved by face, product of experts": 8,
    }
    assert len(set(map(str, grid.values()))) == 27
    chosen = grid[Setting("RwR, state moved by face", "penalty 0.5, budget 1, follow 0.8")]
    assert chosen == RwRConfig(
        budget=1,
        first_budget=2,
        penalty=0.5,
        follow=0.8,
        align="face",
        weighting="spread",
        fusion="arithmetic",
    )
    crop = [grid[setting] for setting in grid if setting.method == "RwR, state moved by crop"]
    assert {recurrence.follow for recurrence in crop} == {1.0}
    stop = grid[Setting("RwR, early stopping", "budget 1")]
    assert (stop.budget, stop.penalty, stop.align) == (1, 0.0, "none")
    with pytest.raises(ValueError, match="follow must be in"):
        recurrence_grid([0], [1.0], [2.0], ["face"], ["arithmetic"], RwRConfig())
    only = recurrence_grid([0], [1.0], [0.8], ["none", "face"], ["geometric"], RwRConfig())
    assert [setting.method for setting in only] == [
        "RwR, early stopping",
        "RwR, as configured",
        "RwR, product of experts",
        "RwR, state moved by face, product of experts",
    ]
    assert [recurrence.fusion for recurrence in only.values()][2:] == ["geometric"] * 2


def test_what_the_model_is_configured_to_do_is_tried_as_it_is():
    def configured(**values):
        grid = recurrence_grid([0], [1.0], [0.8], ["none"], ["arithmetic"], RwRConfig(**values))
        [(setting, recurrence)] = [one for one in grid.items() if "configured" in one[0].method]
        assert recurrence == RwRConfig(**values)
        return setting.values

    seconds = {"hold_seconds": 0.05, "follow_seconds": 0.01}
    assert configured(**seconds) == "hold_seconds 0.05, follow_seconds 0.01, budget 0"
    assert configured(penalty=(1.0, 2.0), align="crop", budget=2) == "penalty by landmark, budget 2"


# Tables.


def of(scores, jitter=3.0, names=("one", "two")):
    """Scores as if they had been measured."""
    source = types.SimpleNamespace(where="toy:test", attribute_names=[], names=list(names))
    count = len(scores[ALONE].nme)
    return Measured(
        split=Split(source, SCHEMA.eye_corners),
        indices=np.arange(count),
        labels=Labels(schema=SCHEMA),
        scores=scores,
        frames_per_second={ALONE: 60.4, Setting("RwR", "penalty 1"): np.nan},
        jitter=np.full(count, jitter),
        motion=np.zeros((count, 3)),
        attributes=np.zeros((count, 0), bool),
        num_frames=np.full(count, 4),
        tracks={},
        frames_left_out={},
        by_landmark={},
    )


def cells(text):
    head, _, *lines = ([c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines())
    return {line[0]: dict(zip(head, line, strict=True)) for line in lines}


def test_a_table_holds_the_means_and_the_change_against_the_best_filter():
    scores = made_up({s: (nme / 100, nmf) for s, (nme, nmf) in EXAMPLE.items()})
    choice = choose(scores, 0)
    rows = cells(video_tables.choice_table(of(scores, jitter=40.0), choice))
    assert list(rows) == [s.method + "*" * (s.method == "gaussian") for s in choice.settings]
    row = rows["RwR"]
    assert (row["setting"], row["NME (%)"], row["NMF"]) == ("penalty 1", "3.000", "50.0")
    assert row["against kalman (%)"] == "-37.5 [-37.5, -37.5]"
    assert row["NMF without label jitter"] == f"{np.sqrt(75**2 - 40**2) / 2:.1f}"
    assert row["drift over 16 frames (%)"] == "5000.000"
    assert rows["kalman"]["against kalman (%)"] == "-"
    assert [row["frames/s"] for row in rows.values()] == ["60"] + [""] * 5


def test_one_video_has_no_interval_and_a_failure_no_number():
    one = made_up({s: v for s, v in EXAMPLE.items() if np.isfinite(v).all()})
    one = {s: Scores(*(field[:1] for field in scores)) for s, scores in one.items()}
    choice = choose(one, 0)
    rows = cells(video_tables.choice_table(of(one, jitter=np.nan), choice))
    assert rows["RwR"]["against kalman (%)"] == "-37.5"
    assert rows["RwR"]["NMF without label jitter"] == "nan"
    one[choice.recurrence] = Scores(*(np.nan * field for field in one[choice.recurrence]))
    row = cells(video_tables.choice_table(of(one), choice))["RwR"]
    assert (row["NMF"], row["against kalman (%)"], row["evaluations"]) == ("nan", "", "nan")


# From end to end.


def evaluate(monkeypatch, config, output, fake=None, tuning="tuning", split="test", **changes):
    fake = fake or Fake()
    data = dataclasses.replace(config.data, eval_split=split)

    def measure(config, variables, split, options, labels):
        return measure_split(config, split, split, options, labels)

    monkeypatch.setattr(videos, "run_methods", fake)
    monkeypatch.setattr(scoring, "FILTERS", FEW)
    monkeypatch.setattr(videos, "measure", measure)
    options = dataclasses.replace(OPTIONS, tuning_split=tuning, **changes)
    evaluation.evaluate(
        dataclasses.replace(config, data=data),
        {},
        output,
        faces=FaceOptions(),
        videos=options,
        about={"checkpoint": "none", "step": 3},
        overwrite=True,
    )
    return json.loads((output / "metrics.json").read_text())


@pytest.fixture(scope="module")
def written(config, tmp_path_factory):
    output = tmp_path_factory.mktemp("written") / "deep" / "down"
    with pytest.MonkeyPatch.context() as patch:
        evaluate(patch, config, output, shown=["films/r", "s"], overlays=True)
    return output


def test_everything_is_written(written):
    names = {str(path.relative_to(written)) for path in written.rglob("*.*")}
    files = {"metrics.json", "table.md", "settings.csv", "videos.csv", "trade_off.png"}
    files.add("report.html")
    shown = {f"flicker/{name}.png" for name in ("films_r", "s")}
    assert names == files | shown | {f"overlays/{name}.mp4" for name in ("films_r", "s")}
    for name in ("trade_off.png", *shown):
        assert cv2.imread(str(written / name)).std() > 5
    for name, frames in (("films_r", 14), ("s", 8)):
        video = cv2.VideoCapture(str(written / "overlays" / f"{name}.mp4"))
        assert video.get(cv2.CAP_PROP_FRAME_COUNT) == frames
        assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)


def test_the_record_has_the_results_and_the_settings(written):
    record = json.loads((written / "metrics.json").read_text())
    assert (record["split"], record["tuning_split"]) == ("test", "tuning")
    assert sorted(record["left_out"]) == ["t", "v"] and record["tuning_left_out"] == []
    assert (record["checkpoint"], record["step"], record["slack"]) == ("none", 3, 0.005)
    chosen = {row["method"]: row for row in record["chosen"]}
    assert chosen["RwR"] == {"method": "RwR", "values": "penalty 3", "keeps_nme": True}
    assert not chosen[DRIFTING]["keeps_nme"]
    assert list(chosen)[0] == ALONE.method and list(chosen)[-2:] == ["RwR", DRIFTING]
    assert record["best_causal_filter"]["method"] in {kind.name for kind in FILTERS if kind.causal}
    assert len(record["reported"]) == len(record["tuning"]) == 15
    assert list(chosen)[4:7] == [
        "each frame alone, budget 1",
        "exponential, budget 1",
        "one_euro, budget 1",
    ]
    assert record["videos_with_motion"] == {"head": 2}, "those of ten frames and more"
    assert [row["method"] for row in record["subsets"]["easy"]] == list(chosen)
    assert {row["videos"] for row in record["reported"]} == {4}
    assert {row["videos"] for row in record["subsets"]["easy"]} == {2}


def test_tables_and_lines_agree_with_the_record(written, splits):
    record = json.loads((written / "metrics.json").read_text())
    with (written / "videos.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * len(record["chosen"])
    ours = [line for line in lines if line["method"] == "RwR"]
    assert {line["name"] for line in ours} == {"films/r", "s", "u", "x"}
    assert all(int(line["easy"]) == (line["name"] in EASY) for line in ours)
    assert {line["name"]: line["frames"] for line in ours}["u"] == "9"
    for line in ours:
        index = int(line["index"])
        points = Fake().track(splits["test"], index, STEADY).points[:-3]
        nme, face, nmf, _ = expected_scores(splits["test"], index, points)
        found = [float(line[key]) for key in ("nme", "nme_face", "nmf")]
        np.testing.assert_allclose(found, [100 * nme, 100 * face, nmf], atol=1e-4)
    row = next(row for row in record["reported"] if row["setting"] == "penalty 3")
    assert np.mean([float(line["nmf"]) for line in ours]) == pytest.approx(row["nmf"], abs=1e-3)
    with (written / "settings.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * len(record["reported"])
    same = [line for line in lines if line["setting"] == "penalty 3"]
    assert [line["split"] for line in same] == ["tuning", "reported"]
    assert float(same[1]["nme_percent"]) == row["nme_percent"] and same[1]["nad_16"] == ""
    text = re.sub(" +", " ", (written / "table.md").read_text())
    assert text.startswith("4 videos of toy_clips:test (2 left out that cannot be measured: ")
    assert "settings chosen on 3 videos of toy_clips:tuning.\n" in text
    assert f"| RwR | penalty 3 | {row['nme_percent']:.3f} |" in text
    assert (
        text.count("\n| RwR |") == 4
        and text.count(f"\n| {DRIFTING}* |") == 1
        and "\n\\* No" in text
    )
    easy = next(r for r in record["subsets"]["easy"] if r["setting"] == "penalty 3")
    assert f"| RwR | penalty 3 | {easy['nme_percent']:.3f} | {easy['nmf']:.1f} |" in text
    assert f"an NMF of {record['label_jitter']:.1f}." in text
    assert video_tables.EXPLAINED in text
    assert "**Only 4 videos:** intervals over fewer than 20 " in text


def test_the_report_says_what_the_record_says(written):
    record, page = json.loads((written / "metrics.json").read_text()), Page(written / "report.html")
    page.check()
    assert video_tables.EXPLAINED in page.text
    rows, kept = page.rows(), {(row["method"], row["setting"]): row for row in record["reported"]}
    assert [row["method"].rstrip("*") for row in rows] == [
        row["method"] for row in record["chosen"]
    ]
    for row in rows:
        numbers = kept[row["method"].rstrip("*"), row["setting"].replace("–", "")]
        assert row["NME (%)"] == f"{numbers['nme_percent']:.3f}"
        assert row["NMF"] == f"{numbers['nmf']:.1f}"
    [videos] = [page.rows(k) for k, table in enumerate(page.tables) if table[0][0] == "video"]
    with (written / "videos.csv").open() as file:
        ours = {line["name"]: line for line in csv.DictReader(file) if line["method"] == "RwR"}
    assert sorted(row["video"] for row in videos) == sorted(ours)
    for row in videos:
        assert row["NME (%), RwR"] == f"{float(ours[row['video']]['nme']):.2f}"
    errors = [float(row["NME (%), RwR"]) for row in videos]
    assert errors == sorted(errors, reverse=True)
    charts = {chart["title"]: chart for chart in page.charts}
    assert {"Flicker in films/r", "Flicker in s", "Error, RwR", "Flicker, RwR"} <= set(charts)
    trade_off = charts["Error against flicker"]["series"]
    assert sum(len(series["points"]) for series in trade_off) == len(record["reported"]) + 2
    [recurrence] = [series for series in trade_off if series["name"] == "RwR"]
    assert recurrence["labels"][recurrence["chosen"]].startswith("penalty 3\n")
    assert "Only 4 videos: intervals over fewer than 20" in page.text
    clips = [of for tag, of in page.elements if tag == "video"]
    assert len(clips) == 2 and all(of["src"].startswith("data:video/mp4") for of in clips)
    links = [link for link in page.attributes("href") if link.endswith(".mp4")]
    assert sorted(links) == ["overlays/films_r.mp4", "overlays/s.mp4"]
    assert all((written / link).exists() for link in links)


def test_errors_of_landmarks_are_means_over_the_videos_that_count(monkeypatch, config, splits):
    found = measured(monkeypatch, config, splits["test"])
    assert set(found.by_landmark) == {ALONE, FEWER, *RECURRENCES}, "the model's, not the filters'"
    for setting, values in found.by_landmark.items():
        assert values.shape == (POINTS, 2)
        assert values[:, 0].mean() == pytest.approx(found.scores[setting].nme.mean(), rel=1e-5)
    assert found.subsets()["easy"].by_landmark == {}


def results(tuning, reported, choice):
    found = {"tuning": tuning, "reported": reported, "choice": choice}
    return VideoResults(**found, slack=0, schema=SCHEMA, overlays=False)


def test_tables_name_what_was_left_out_and_warn_of_few_videos():
    scores = made_up({s: (nme / 100, nmf) for s, (nme, nmf) in EXAMPLE.items()})
    choice, two = choose(scores, 0), of(scores)
    text = results(two, two._replace(frames_left_out={"b/c": 3}), choice).tables()
    assert "(3 frames left out whose labels have no size: b/c (3)); settings" in text
    assert text.count("**Only 2 videos:**") == 1 and text.count("left out") == 1
    many = {s: Scores(*(np.repeat(f, 10, axis=0) for f in kept)) for s, kept in scores.items()}
    many = of(many, names=[*"abcdefghijklmnopqrst"])
    assert "**Only" not in results(many, many, choice).tables()


def test_what_was_there_is_replaced_and_nothing_else(monkeypatch, config, tmp_path):
    for name in ("flicker/old.png", "overlays/old.mp4", "overlays/notes.txt", "mine.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    evaluate(monkeypatch, config, tmp_path)
    assert not list(tmp_path.glob("*/old.*"))
    assert (tmp_path / "overlays" / "notes.txt").read_text() == "before"
    assert (tmp_path / "mine.txt").read_text() == "before"
    assert len(list((tmp_path / "flicker").iterdir())) == 1
    assert not list(tmp_path.glob("overlays/*.mp4")), "nobody asked for one"


def test_slack_and_the_absence_of_recurrence(monkeypatch, config, tmp_path, capsys):
    record = evaluate(monkeypatch, config, tmp_path, recurrences={}, slack=0.05)
    assert "RwR" not in Page(tmp_path / "report.html").check().text
    assert record["slack"] == 0.05 and "by more than 5 %" in capsys.readouterr().out
    assert "RwR" not in (tmp_path / "table.md").read_text()


def test_settings_are_chosen_on_the_tuning_videos(monkeypatch, config, tmp_path):
    def spoil(setting, name, points):
        if setting == STEADY and name not in LENGTHS["tuning"]:
            points[::2] += 5

    record = evaluate(monkeypatch, config, tmp_path, Fake(spoil=spoil), slack=1.5)
    chosen = {row["method"]: row for row in record["chosen"]}
    assert chosen["RwR"]["values"] == STEADY.values
    assert all(row["keeps_nme"] for row in chosen.values()), "all that slack is enough for"
    nmf = {row["setting"]: row["nmf"] for row in record["reported"]}
    assert nmf[STEADY.values] > nmf[WORSE.values]


def test_the_offset_is_that_of_the_tuning_videos(monkeypatch, config, tmp_path):
    def spoil(setting, name, points):
        points += 3 if name in LENGTHS["tuning"] else 5

    fake = Fake(noise=dict.fromkeys(Fake().noise, 0.0), spoil=spoil)
    record = evaluate(monkeypatch, config, tmp_path, fake, remove_offset=True)
    assert record["tuning"][0]["nme_face_percent"] < 0.3
    left = 100 * np.hypot(2, 2) / 35.5
    assert record["reported"][0]["nme_face_percent"] == pytest.approx(left, rel=0.05)


def test_one_video_each_is_enough(monkeypatch, config, tmp_path):
    record = evaluate(monkeypatch, config, tmp_path, tuning="tuning[:1]", split="tuning[1:2]")
    assert record["subsets"] == {}
    assert [record[key][0]["videos"] for key in ("reported", "tuning")] == [1, 1]
    assert "Only 1 video:" in Page(tmp_path / "report.html").check().text


def test_no_more_rows_than_videos(monkeypatch, config, tmp_path):
    sizes = []

    class Watching(Fake):
        def __call__(self, config, *rest):
            sizes.append(config.data.batch_size)
            yield from super().__call__(config, *rest)

    evaluate(monkeypatch, config, tmp_path / "4", Watching())
    data = dataclasses.replace(config.data, batch_size=32)
    evaluate(monkeypatch, dataclasses.replace(config, data=data), tmp_path / "6", Watching())
    assert sizes == [4, 4, 6, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"shown": ["s", "nobody"]},
            "no video 'nobody' to show in toy_clips:test; it .*films/r",
        ),
        ({"shown": ["p"]}, "no video 'p' to show"),
        ({"tuning": "tuning+test[2:]"}, "4 videos are in both the tuning split .* such as '"),
        ({"split": "tuning"}, "3 videos are in both"),
        ({"split": "test[:0]"}, "holds no videos"),
    ],
)
def test_mistakes_are_found_before_anything_is_computed(
    monkeypatch, config, tmp_path, changes, message
):
    fake = Fake()
    with pytest.raises(ValueError, match=message):
        evaluate(monkeypatch, config, tmp_path / "new", fake, **changes)
    assert fake.calls == 0 and not (tmp_path / "new").exists()
