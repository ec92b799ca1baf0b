"""Many videos at once, and one frame after another, say what a plain loop over frames says."""

import dataclasses
import itertools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_inference import MODEL as SHORT
from test_inference import random_state

from ldeq_jax.config import Config
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.videos import VideoBatch
from ldeq_jax.evaluation import runner
from ldeq_jax.evaluation.runner import Clock, run_methods
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import crop_around, crop_whole, labelled_crop
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.inference.videos import FrameInfo, VideoPredictor, compiled_programs
from ldeq_jax.model import rwr
from ldeq_jax.model.ldeq import LDEQ, normalise_image
from ldeq_jax.model.rwr import RwRConfig

MODEL = dataclasses.replace(SHORT, temperature=2.0)
SIZE, K = MODEL.image_size, MODEL.num_landmarks
CONFIG = Config(model=MODEL, data=DataConfig(name="none", crop="extent", crop_scale=1.3))
METHODS = {
    "alone": None,
    "stop": RwRConfig(budget=1, penalty=0.0, follow=1.0, align="none"),
    "hold": RwRConfig(budget=0, penalty=2.0, follow=1.0, align="none"),
    "face": RwRConfig(budget=1, penalty=1.0, follow=0.8, align="face"),
    "seconds": RwRConfig(budget=1, hold_seconds=0.1, follow_seconds=0.025, align="face"),
}
FPS = 10.0
LENGTHS = {4: 9, 0: 5, 7: 5, 2: 1}  # number of the video in its split: frames
LOST = {4: [3, 4], 0: [0], 7: [4]}
STEP, SCAN = compiled_programs(MODEL)  # rwr's, of images that are not normalised yet


class Film:
    """Frames, boxes and crops of a face that moves; some are lost."""

    def __init__(self, number):
        rng = np.random.default_rng(number)
        length = LENGTHS[number]
        scene = np.kron(rng.uniform(40, 200, (12, 15, 3)), np.ones((6, 6, 1)))
        noise = rng.normal(0, 15, (length, *scene.shape))
        self.frames = (scene + noise).clip(0, 255).astype(np.uint8)
        corner = [20, 12] + rng.uniform(-2, 2, (length, 2)).cumsum(axis=0)
        self.boxes = np.concatenate([corner, corner + rng.uniform(35, 40, (length, 2))], axis=1)
        self.boxes[LOST.get(number, [])] = np.nan
        self.mask = np.isfinite(self.boxes).all(axis=1)
        self.images = np.zeros((length, SIZE, SIZE, 3), np.uint8)
        self.frame_from_crop = np.tile(np.eye(3), (length, 1, 1))
        for t in np.flatnonzero(self.mask):
            box = self.boxes[t]
            crop = labelled_crop("extent", 1.3, SIZE, shape=None, box=box, landmarks=None)
            self.images[t] = geometry.warp(self.frames[t], crop, SIZE)
            self.frame_from_crop[t] = geometry.inverse(crop).astype(np.float32)


FILMS = {number: Film(number) for number in LENGTHS}


@pytest.fixture(scope="module")
def variables():
    return random_state(MODEL).variables()


def chunks(groups, frames, shift=(0, 0)):
    """Each group's chunks; a group is the numbers of its videos, -1 for a row without one."""
    made = []
    for group, numbers in enumerate(groups):
        longest = max(LENGTHS.get(number, 0) for number in numbers)
        made.append([])
        for start in range(0, longest, frames):
            shape = len(numbers), frames
            batch = VideoBatch(
                image=np.zeros((*shape, SIZE, SIZE, 3), np.uint8),
                frame_from_crop=np.tile(np.eye(3, dtype=np.float32), (*shape, 1, 1)),
                mask=np.zeros(shape, bool),
                reset=np.zeros(shape, bool),
                interval=np.full(shape, 1 / FPS, np.float32),
                index=np.array(numbers, np.int32),
                start=start,
                group=group,
                last=start + frames >= longest,
            )
            for row, number in enumerate(numbers):
                if number < 0:
                    continue
                film = FILMS[number]
                part = slice(start, start + frames)
                length = len(film.mask[part])
                reset = film.mask & ~np.append(False, film.mask[:-1])
                batch.image[row, :length] = film.images[part]
                batch.frame_from_crop[row, :length] = film.frame_from_crop[part]
                batch.frame_from_crop[row, :length, :2, 2] += shift
                batch.mask[row, :length] = film.mask[part]
                batch.reset[row, :length] = reset[part]
            made[-1].append(batch)
    return made


def run(variables, groups=((4, 0), (7, 2)), frames=3, methods=METHODS, shift=(0, 0), clocks=None):
    batches = itertools.chain.from_iterable(chunks(groups, frames, shift))
    return dict(run_methods(CONFIG, variables, methods, batches, clocks))


@pytest.fixture(scope="module")
def first_run(variables):
    """What is found, the clocks, and the number of programs compiled."""
    clocks = {name: Clock() for name in METHODS}
    return run(variables, clocks=clocks), clocks, SCAN._cache_size()


@pytest.fixture
def found(first_run):
    return first_run[0]


ABSENT = dataclasses.replace(
    Landmarks.absent(K), box=None, info=FrameInfo(np.array(0), np.array(np.nan), np.array(np.nan))
)


def looped(variables, film, method):
    """Landmarks of a film by a loop over `rwr.step`; stills are frames that follow none."""
    state, rows = rwr.initial_state(MODEL, 1), []
    settings = METHODS["stop"] if method is None else method
    for t, known in enumerate(film.mask):
        if method is None or not known:
            state = rwr.initial_state(MODEL, 1)
        if not known:
            rows.append(ABSENT)
            continue
        place = film.frame_from_crop[t]
        matrix = place[None].astype(np.float32)
        interval = np.full(1, 1 / FPS, np.float32)
        now, state = STEP(variables, settings, film.images[t, None], state, matrix, interval)
        points = SIZE * np.asarray(now.landmarks[0]) @ place[:2, :2].T + place[:2, 2]
        spread = SIZE * np.asarray(now.spread[0]) * place[0, 0]
        info = FrameInfo(now.num_evaluations[0], now.residual[0], now.distance[0])
        rows.append(Landmarks(points=points, spread=spread, ok=np.True_, info=info))
    return Landmarks.stack(rows)


def assert_same(found, expected):
    """Equal, and nothing but NaN beyond the end."""
    length = len(expected)
    for name, values, others in zip(NAMES, fields(found), fields(expected), strict=True):
        np.testing.assert_allclose(values[:length], others, 1e-3, 1e-3, err_msg=name)
        beyond = values[length:]
        nothing = beyond == 0 if name in ("ok", "num_evaluations") else np.isnan(beyond)
        assert nothing.all()


NAMES = ("points", "spread", "ok", *FrameInfo._fields)


def fields(found):
    return [found.points, found.spread, found.ok, *found.info]


# Many videos at once.


@pytest.mark.parametrize("method", METHODS)
def test_each_video_is_a_plain_loop_over_its_frames(variables, found, method):
    assert set(found) == set(LENGTHS)
    for number, film in FILMS.items():
        assert_same(found[number][method], looped(variables, film, METHODS[method]))


def test_the_methods_differ_where_a_frame_follows_another(found):
    alone = found[4]["alone"]
    for name, track in found[4].items():
        different = np.abs(track.points - alone.points).max(axis=(1, 2))[:9] > 1e-3
        follows = [t in (1, 2, 6, 7, 8) for t in range(9)]
        assert different.tolist() == (follows if name != "alone" else [False] * 9)
        assert np.isnan(track.points[3:5]).all()
        np.testing.assert_array_equal(
            np.isfinite(track.info.distance[:9]), follows if name != "alone" else [False] * 9
        )
    assert found[4]["hold"].info.num_evaluations[:9].tolist() == [5, 1, 1, 0, 0, 5, 1, 1, 1]


def test_batch_chunk_and_padding_change_nothing(variables, found):
    # One group of another shape: a row without a video, which becomes the row before last.
    methods = {"face": METHODS["face"]}
    tracks = run(variables, ((0, -1, 4, 7, 2),), frames=4, methods=methods)
    assert set(tracks) == set(LENGTHS)
    for number, length in LENGTHS.items():
        expected = found[number]["face"][:length]
        assert_same(tracks[number]["face"], expected)


def test_groups_may_be_read_at_the_same_time_and_in_any_order(variables, found):
    first, second = chunks(((4, 0), (7, 2)), 3)
    assert (len(first), len(second)) == (3, 2)
    order = [second[0], first[0], first[1], second[1], first[2]]
    again = run_methods(CONFIG, variables, METHODS, order)
    numbers = []
    for number, tracks in again:
        numbers.append(number)
        for name, track in tracks.items():
            list(map(np.testing.assert_array_equal, fields(track), fields(found[number][name])))
    assert numbers == [7, 2, 4, 0], "as their groups are done"


def test_methods_do_not_affect_each_other(variables, found):
    for name, method in METHODS.items():
        for number, tracks in run(variables, methods={name: method}).items():
            assert list(tracks) == [name]
            list(
                map(
                    np.testing.assert_array_equal, fields(tracks[name]), fields(found[number][name])
                )
            )


def test_a_video_is_handed_out_with_the_last_chunk_of_its_group(variables, found):
    taken = []

    def counted():
        for batch in itertools.chain.from_iterable(chunks(((4, 0), (7, 2)), 3)):
            taken.append(batch)
            yield batch

    seen = [
        (number, len(taken)) for number, _ in run_methods(CONFIG, variables, METHODS, counted())
    ]
    assert seen == [(4, 3), (0, 3), (7, 5), (2, 5)]


def test_the_states_of_a_group_go_with_it(variables, found):
    shape = (2, MODEL.heatmap_size, MODEL.heatmap_size, K)
    held = []

    def watched():
        for batch in itertools.chain.from_iterable(chunks([(2, -1)] * 4, 3)):
            assert batch.last
            held.append(sum(array.shape == shape for array in jax.live_arrays()))
            yield batch

    assert len(list(run_methods(CONFIG, variables, METHODS, watched()))) == 4
    assert held == [0] + [len(METHODS)] * 3, "of the last group"


def test_frame_coordinates_keep_their_digits(variables, found):
    shift = (4096, 2048)
    moved = run(variables, shift=shift)
    for number in LENGTHS:
        # Matrices hold 24 binary digits, and a method that leaves the state alone no others.
        length = LENGTHS[number]
        expected = found[number]["hold"].points[:length]
        error = moved[number]["hold"].points[:length] - shift - expected
        error = error[FILMS[number].mask]
        assert np.abs(error).max() < 2.0**-11
        np.testing.assert_allclose(error, np.broadcast_to(error[:, :1], error.shape), atol=1e-9)


def test_numbers_of_a_method_compile_nothing(variables, found):
    programs = SCAN._cache_size()
    other = dataclasses.replace(METHODS["face"], budget=0, penalty=3.5, follow=0.5)
    tracks = run(variables, methods={"alone": None, "other": other})
    assert SCAN._cache_size() == programs
    assert not np.allclose(tracks[7]["other"].points[1], found[7]["face"].points[1])


def test_a_program_serves_all_methods_and_chunks_of_a_kind(first_run):
    _, clocks, programs = first_run
    assert programs == 3, "without motion, with it per frame and in seconds"
    # Only the first chunk of the first method of each kind had to wait.
    seen = [sum(int(FILMS[n].mask[t:].sum()) for n in LENGTHS) for t in (0, 3)]
    seen[1] += sum(int(FILMS[n].mask[:3].sum()) for n in (7, 2))
    timed = {name: clock._frames for name, clock in clocks.items()}
    assert timed == {
        "alone": seen[1],
        "stop": seen[0],
        "hold": seen[0],
        "face": seen[1],
        "seconds": seen[1],
    }


# The clock.


def ticking(monkeypatch, seconds):
    """A clock that runs on by so much whenever it is looked at."""
    now = itertools.count(step=seconds)
    clock = types.SimpleNamespace(perf_counter=lambda: next(now))
    monkeypatch.setattr(runner, "time", clock)


def test_speed_is_that_of_frames_with_a_face(variables, found, monkeypatch):
    ticking(monkeypatch, 0.5)
    clocks = {name: Clock() for name in METHODS}
    batches = itertools.chain.from_iterable(chunks(((4, 0), (7, 2)), 3))
    list(run_methods(CONFIG, variables, METHODS, batches, clocks))
    seen = sum(film.mask.sum() for film in FILMS.values())
    for clock in clocks.values():
        assert clock.frames_per_second == pytest.approx(seen / (5 * 0.5))


def test_what_is_compiled_is_not_timed(monkeypatch):
    ticking(monkeypatch, 2.0)
    clock, double = Clock(), jax.jit(lambda x: 2 * x)
    assert math.isnan(clock.frames_per_second)
    for length, expected in ((3, math.nan), (3, 5.0), (4, 5.0), (4, 5.0)):
        with clock.timing(10, double):
            double(jnp.zeros(length))
        np.testing.assert_equal(clock.frames_per_second, expected)


# Frame after frame.


@pytest.mark.parametrize("method", ["alone", "face", "seconds"])
def test_one_frame_after_another_is_the_scan(variables, found, method):
    predictor = VideoPredictor(CONFIG, variables, METHODS[method])
    for number, film in FILMS.items():
        state, rows = None, []
        for frame, box in zip(film.frames, film.boxes, strict=True):
            if np.isfinite(box).all():
                track, state = predictor.step(frame, box, state, 1 / FPS)
            else:
                track, state = ABSENT, None
            rows.append(track)
        online = Landmarks.stack([dataclasses.replace(row, box=None) for row in rows])
        assert_same(found[number][method], online)


def test_the_crop_is_that_of_a_face_in_a_picture(variables):
    film = FILMS[7]
    frame, box = film.frames[0], film.boxes[0]
    found = {}
    for crop in ("extent", "landmarks", "box", "none"):
        data = dataclasses.replace(CONFIG.data, crop=crop)
        config = dataclasses.replace(CONFIG, data=data)
        predictor = VideoPredictor(config, variables, None)
        found[crop] = predictor.step(frame, box)[0].points
        crop_from_frame = crop_around(crop, 1.3, SIZE, shape=frame.shape, box=box)
        image = geometry.warp(frame, crop_from_frame, SIZE)[None]
        state, anywhere = rwr.initial_state(MODEL, 1), np.eye(3, dtype=np.float32)[None]
        seen, _ = STEP(variables, METHODS["stop"], image, state, anywhere, np.ones(1))
        points = SIZE * np.asarray(seen.landmarks[0])
        expected = geometry.transform_points(geometry.inverse(crop_from_frame), points)
        np.testing.assert_allclose(found[crop], expected, atol=1e-3)
    assert not np.allclose(found["extent"], found["box"], atol=0.1)
    whole = predictor.step(frame, None)[0].points  # by the last, for pictures that are crops
    crop_from_frame = crop_whole(frame.shape[1], frame.shape[0], SIZE)
    image = geometry.warp(frame, crop_from_frame, SIZE)[None]
    seen, _ = STEP(variables, METHODS["stop"], image, state, anywhere, np.ones(1))
    points = SIZE * np.asarray(seen.landmarks[0])
    expected = geometry.transform_points(geometry.inverse(crop_from_frame), points)
    np.testing.assert_allclose(whole, expected, atol=1e-3)
    with_score = predictor.step(frame, np.append(box, 0.9))[0]
    np.testing.assert_array_equal(with_score.points, found["none"])


def test_a_frame_alone_is_the_models_still(variables):
    # With the final evaluation, which recurrence takes by itself, it is what the loop above has.
    forward = dataclasses.replace(MODEL.forward, final_evaluation=False)
    model = dataclasses.replace(MODEL, forward=forward)
    film = FILMS[7]
    predictor = VideoPredictor(dataclasses.replace(CONFIG, model=model), variables, None)
    track, _ = predictor.step(film.frames[0], film.boxes[0])
    image = normalise_image(jnp.asarray(film.images[:1])).astype(model.dtype)
    still = jax.jit(LDEQ(model).apply)(variables, image)
    points = SIZE * np.asarray(still.landmarks[0])
    expected = geometry.transform_points(film.frame_from_crop[0], points)
    np.testing.assert_allclose(track.points, expected, atol=1e-3)
    assert track.info.num_evaluations == still.info.num_steps[0]


def test_a_video_is_treated_as_the_model_is_configured_by_default(variables):
    assert VideoPredictor(CONFIG, variables).recurrence == rwr.RwRConfig()
    config = dataclasses.replace(CONFIG, rwr=METHODS["stop"])
    assert VideoPredictor(config, variables).recurrence == METHODS["stop"]
    assert VideoPredictor(config, variables, METHODS["face"]).recurrence == METHODS["face"]
    assert VideoPredictor(config, variables, None).recurrence is None


def test_what_is_no_frame_or_no_face_is_refused(variables):
    predictor = VideoPredictor(CONFIG, variables)
    frame, box = FILMS[7].frames[0], FILMS[7].boxes[0]
    with pytest.raises(TypeError, match="uint8"):
        predictor.step(frame.astype(int), box)
    with pytest.raises(ValueError, match="span"):
        predictor.step(frame.astype(float), box)
    with pytest.raises(ValueError, match="must be"):
        predictor.step(frame[..., 0], box)
    for wrong, message in (([5, 5, 5, 5], "two corners"), ([np.nan] * 4, "finite")):
        with pytest.raises(ValueError, match=message):
            predictor.step(frame, np.array(wrong))
    for wrong in ([0.2, 0.2, 0.7, 0.6], [0, 0, 1e9, 1e9], None):
        with pytest.raises(ValueError, match="fractions|times as large|give the box"):
            predictor.step(frame, wrong)


def test_a_frame_copies_its_crop_to_the_device_and_nothing_else(variables):
    film = FILMS[7]
    for method in ("alone", "face"):
        predictor = VideoPredictor(CONFIG, variables, METHODS[method])
        state = None
        for t in range(4):
            guard = "disallow" if t > 1 else "allow"  # the first two compile
            with jax.transfer_guard_host_to_device(guard):
                _, state = predictor.step(film.frames[t], film.boxes[t], state)


def test_a_frame_alone_with_other_solver_steps_is_a_recurrence_that_never_recurs(variables):
    """A budget for each frame alone is that of the first frames of a film of one frame."""
    found = run(variables, groups=((2,),), methods={"few": 1, "whole": None})[2]
    first = RwRConfig(budget=0, first_budget=1, penalty=9.0, align="none")
    expected = run(variables, groups=((2,),), methods={"few": first})[2]["few"]
    np.testing.assert_allclose(found["few"].points, expected.points, rtol=1e-6)
    assert found["few"].info.num_evaluations[0] == 2 < found["whole"].info.num_evaluations[0]
    film = run(variables, groups=((7,),), methods={"few": 1})[7]["few"]
    assert set(film.info.num_evaluations[FILMS[7].mask.nonzero()]) == {2}, "every frame alike"
