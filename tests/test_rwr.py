"""Recurrence: what the state, the penalty and the motion of the crop do, frame by frame."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldeq_jax.deq.objective import minimise_objective
from ldeq_jax.deq.solver import SolverConfig
from ldeq_jax.model import heatmap, motion, rwr
from ldeq_jax.model.ldeq import LDEQ, ModelConfig, equation, inject, normalise_image
from ldeq_jax.model.rwr_config import penalties

K, SIZE, FRAMES = 5, 32, 6
MODEL = ModelConfig(
    num_landmarks=K,
    image_size=SIZE,
    injection_width=8,
    base_width=8,
    width_increment=8,
    depth=1,
    residual_kernel=3,
    temperature=2.0,
    stem_norm="group",
    dtype="float64",
    forward=SolverConfig(method="picard", max_steps=60, tol=1e-12),
)
step = jax.jit(rwr.step, static_argnums=0)
scan = jax.jit(rwr.scan, static_argnums=0)
still = jax.jit(LDEQ(MODEL).apply)
minimise = jax.jit(minimise_objective, static_argnums=(0, 5, 6))
predict_motion, update_motion = jax.jit(motion.predict_motion), jax.jit(motion.update_motion)
crop_motion, move = jax.jit(motion.crop_motion), jax.jit(heatmap.move)
soft_argmax = jax.jit(heatmap.soft_argmax)
MAP = equation(MODEL)
pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture(scope="module")
def variables():
    """A map that contracts: it hears its own state through a tenth of its random weights."""
    with jax.enable_x64(True):
        image = jnp.zeros((1, SIZE, SIZE, 3))
        variables = jax.jit(LDEQ(MODEL).init)(jax.random.key(3), image)
        return with_feedback(variables, 0.1)


def with_feedback(variables, gain):
    """The map's dependence on z times `gain`."""
    params = variables["params"]
    entry = params["map"]["entry"]
    kernel = entry["conv"]["kernel"]
    entry = entry | {"conv": entry["conv"] | {"kernel": kernel.at[:K].multiply(gain)}}
    return variables | {"params": params | {"map": params["map"] | {"entry": entry}}}


def noisy_clip(rows=2, frames=FRAMES, noise=0.1, seed=0):
    """Still scenes under noise, (B, T, H, W, 3) in [0, 1]."""
    rng = np.random.default_rng(seed)
    scene = np.kron(rng.uniform(0.2, 0.8, (rows, 1, 8, 8, 3)), np.ones((1, 1, 4, 4, 1)))
    return (scene + rng.normal(0, noise, (rows, frames, SIZE, SIZE, 3))).clip(0, 1)


def run(variables, config, clip, model=MODEL, **named):
    named = {name: jnp.asarray(value) for name, value in named.items()}
    state = rwr.initial_state(model, len(clip))
    return scan(model, variables, config, jnp.asarray(clip), state, **named)[0]


def stills(variables, clip):
    """Landmarks (B, T, K, 2) of every frame by itself."""
    flat = normalise_image(jnp.asarray(clip.reshape(-1, SIZE, SIZE, 3)))
    landmarks = still(variables, flat).landmarks
    return np.asarray(landmarks).reshape(*clip.shape[:2], K, 2)


def flicker(landmarks):
    return float(np.sqrt(np.mean(np.diff(np.asarray(landmarks), axis=1) ** 2)))


def shift(dx, dy):
    """frame_from_crop of a crop whose corner lies at (dx, dy)."""
    return np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]])


def blobs(centres, sigma=1.5, size=24):
    """(B, h, w, K) Gaussian heatmaps around (B, K, 2) pixels."""
    centres = np.asarray(centres, float)[:, None, None]
    y, x = np.mgrid[:size, :size][..., None].astype(float)
    distance = (x - centres[..., 0]) ** 2 + (y - centres[..., 1]) ** 2
    return jnp.asarray(np.exp(-distance / (2 * sigma**2)))


def matrices(entries):
    """(3, 3) of a similarity a + ib and a shift."""
    a, b, x, y = entries
    return np.array([[a, -b, x], [b, a, y], [0, 0, 1]])


# What penalty and budget do.


@pytest.mark.parametrize("align", ["none", "crop", "face"])
def test_without_penalty_a_converged_frame_is_a_still(variables, align):
    clip = noisy_clip()
    config = rwr.RwRConfig(penalty=0.0, budget=60, align=align)
    prediction = run(variables, config, clip)
    np.testing.assert_allclose(prediction.landmarks, stills(variables, clip), atol=1e-9)
    assert np.all(prediction.residual < 1e-10)


def test_a_first_frame_is_the_models_still(variables):
    clip = noisy_clip()
    image = normalise_image(jnp.asarray(clip[:, 0]))
    alone = still(variables, image)
    prediction, state = step(
        MODEL, variables, rwr.RwRConfig(), image, rwr.initial_state(MODEL, len(clip))
    )
    np.testing.assert_allclose(prediction.landmarks, alone.landmarks, atol=1e-13)
    np.testing.assert_array_equal(prediction.num_steps, alone.info.num_steps)
    np.testing.assert_allclose(state.heatmaps, alone.state, atol=1e-13)
    assert np.all(np.isnan(prediction.distance))


def test_the_inverse_of_an_affine_map_undoes_it():
    rng = np.random.default_rng(0)
    maps = np.tile(np.eye(3), (9, 1, 1))
    maps[:, :2] += rng.normal(0, 2, (9, 2, 3))
    inverses = heatmap.inverse(jnp.asarray(maps))
    np.testing.assert_allclose(inverses, np.linalg.inv(maps), rtol=1e-9, atol=1e-12)


def test_the_readout_offset_moves_landmarks_and_nothing_else(variables):
    clip, config = noisy_clip(), rwr.RwRConfig()
    shifted = run(variables, config, clip, dataclasses.replace(MODEL, readout_offset=0.375))
    found = run(variables, config, clip)
    for name, value in found._asdict().items():
        by = 0.375 / MODEL.heatmap_size if name == "landmarks" else 0
        # The 1e-4 in the denominator takes a little off each.
        np.testing.assert_allclose(getattr(shifted, name), value + by, atol=1e-5)


def test_a_huge_penalty_freezes_the_state(variables):
    prediction = run(variables, rwr.RwRConfig(penalty=1e9, align="none"), noisy_clip())
    first = np.repeat(prediction.landmarks[:, :1], FRAMES, axis=1)
    np.testing.assert_allclose(prediction.landmarks, first, atol=1e-8)
    assert np.all(prediction.distance[:, 1:] < 1e-7)


def test_flicker_falls_with_the_penalty(variables):
    clip = noisy_clip()
    # Not so with "face": a penalty does not hold what looks like the face's own motion.
    configs = [rwr.RwRConfig(penalty=p, align="none") for p in (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)]
    measured = [flicker(run(variables, config, clip).landmarks) for config in configs]
    assert all(low < 0.97 * high for high, low in zip(measured, measured[1:], strict=False))


def test_a_still_video_has_no_flicker(variables):
    clip = np.repeat(noisy_clip(frames=1), FRAMES, axis=1)
    assert flicker(run(variables, rwr.RwRConfig(), clip).landmarks) < 1e-11


def test_a_landmark_of_its_own_penalty(variables):
    held = rwr.RwRConfig(penalty=(0.0, 0.0, 1e9, 0.0, 0.0), align="none", budget=60)
    clip = noisy_clip()
    prediction = run(variables, held, clip).landmarks
    free = [0, 1, 3, 4]
    assert flicker(prediction[:, :, 2:3]) < 1e-8
    # The held heatmap feeds back into the others, weakly in this map.
    np.testing.assert_allclose(
        prediction[:, :, free], stills(variables, clip)[:, :, free], atol=2e-3
    )
    with pytest.raises(ValueError, match="one per landmark"):
        run(variables, rwr.RwRConfig(penalty=(1.0, 2.0)), clip)


def test_spread_holds_what_is_ambiguous():
    sharp, broad = blobs([[[9, 9]]], 1.0), blobs([[[15, 12]]], 3.0)
    previous = jnp.concatenate([sharp, sharp, broad], axis=-1)
    config = rwr.RwRConfig(penalty=0.7, weighting="spread")
    found = np.asarray(penalties(config, jnp.ones(1), previous)).ravel()
    np.testing.assert_allclose(found.mean(), 0.7)
    np.testing.assert_allclose(found[2] / found[:2], 9, rtol=0.05)


def test_more_iterations_come_nearer_to_the_equilibrium(variables):
    clip = noisy_clip()
    errors = []
    for budget in (0, 1, 3):
        config = rwr.RwRConfig(penalty=0.0, budget=budget, align="none")
        prediction = run(variables, config, clip)
        assert np.all(prediction.num_steps[:, 1:] == budget)
        assert np.all(prediction.num_evaluations[:, 1:] == budget + 1)
        errors.append(np.abs(prediction.landmarks - stills(variables, clip)).max())
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


@pytest.mark.parametrize("method", ["anderson", "broyden"])
def test_a_frame_without_a_budget_costs_one_evaluation(method, variables):
    model = dataclasses.replace(MODEL, forward=SolverConfig(method=method, max_steps=2, tol=0.0))
    start = model.forward.start_evaluations
    mask = np.array([[True, True, True], [True, False, True]])
    prediction = run(variables, rwr.RwRConfig(), noisy_clip(frames=3), model, mask=mask)
    first = start + 2 + 1
    assert prediction.num_evaluations.tolist() == [[first, 1, 1], [first, 0, first]]


def test_warm_start_saves_iterations(variables):
    clip = noisy_clip(noise=1e-4)
    cold = rwr.RwRConfig(penalty=0.0, budget=60, warm_start=False)
    warm = dataclasses.replace(cold, warm_start=True)
    steps = [run(variables, config, clip).num_steps[:, 1:] for config in (cold, warm)]
    assert np.all(steps[1] < steps[0])


def test_numbers_are_traced(variables):
    known = set()
    for budget, penalty, follow in ((0, 0.5, 1.0), (2, 1.5, 0.7), (1, 0.0, 0.5)):
        run(variables, rwr.RwRConfig(budget=budget, penalty=penalty, follow=follow), noisy_clip())
        known.add(scan._cache_size())
    assert len(known) == 1, "one program"


@pytest.mark.parametrize("penalty", [0.3, 2.0])
def test_the_cheap_step_minimises_the_objective_of_a_map_without_feedback(variables, penalty):
    deaf = with_feedback(variables, 0.0)
    cheap, exact = cheap_and_exact(deaf, penalty)
    np.testing.assert_allclose(cheap, exact, atol=1e-6)


def test_the_cheap_step_is_off_in_proportion_to_the_feedback(variables):
    errors = []
    for gain in (0.05, 0.1, 0.2):
        cheap, exact = cheap_and_exact(with_feedback(variables, gain), 0.5)
        errors.append(float(np.abs(cheap - exact).max()))
    assert 1.6 < errors[1] / errors[0] < 2.4
    assert 1.6 < errors[2] / errors[1] < 2.4


def cheap_and_exact(variables, penalty):
    """The state of a second frame, by a step of many iterations and by the minimiser of J."""
    images = normalise_image(jnp.asarray(noisy_clip(rows=1, frames=2)[0]))
    config = rwr.RwRConfig(penalty=penalty, align="none", budget=60, fusion="arithmetic")
    state = rwr.initial_state(MODEL, 1)
    _, before = step(MODEL, variables, config, images[:1], state)
    _, after = step(MODEL, variables, config, images[1:], before)
    theta = inject(MODEL, variables, images[1:])
    exact = minimise(MAP, theta, before.heatmaps, before.heatmaps, penalty, 5, 25)
    return np.asarray(after.heatmaps), np.asarray(exact)


def test_minimiser_of_an_affine_map():
    rng = np.random.default_rng(0)
    matrix, offset = 0.3 * rng.normal(size=(4, 4)), rng.normal(size=4)
    previous, penalty = rng.normal(size=(3, 4)), np.array([0.1, 0.5, 1, 3])
    found = minimise_objective(
        lambda theta, z: z @ theta[0].T + theta[1],
        (matrix, offset[None]),
        previous,
        previous,
        penalty[None],
    )
    misfit = matrix - np.eye(4)
    normal = misfit.T @ misfit + np.diag(penalty)
    expected = np.linalg.solve(normal, (penalty * previous - offset @ misfit).T).T
    np.testing.assert_allclose(found, expected, atol=1e-7)


# Rows, chunks, lost faces.


def test_steps_equal_the_scan(variables):
    clip, config = noisy_clip(), rwr.RwRConfig()
    state, landmarks = rwr.initial_state(MODEL, len(clip)), []
    for t in range(FRAMES):
        image = normalise_image(jnp.asarray(clip[:, t]))
        prediction, state = step(MODEL, variables, config, image, state)
        landmarks.append(prediction.landmarks)
    np.testing.assert_allclose(
        np.stack(landmarks, 1), run(variables, config, clip).landmarks, atol=1e-13
    )


def test_chunks_change_nothing(variables):
    clip, config = jnp.asarray(noisy_clip()), rwr.RwRConfig()
    state, parts = rwr.initial_state(MODEL, len(clip)), []
    whole, _ = scan(MODEL, variables, config, clip, state)
    for start in range(0, FRAMES, 2):
        part, state = scan(MODEL, variables, config, clip[:, start : start + 2], state)
        parts.append(part.landmarks)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole.landmarks)


def test_padding_and_neighbours_change_nothing(variables):
    clip, config = noisy_clip(rows=3), rwr.RwRConfig()
    alone = run(variables, config, clip[1:2, :4])
    mask = np.arange(FRAMES) < np.array([[FRAMES], [4], [2]])
    other = clip.copy()
    other[~mask] = np.nan
    together = run(variables, config, other, mask=mask)
    np.testing.assert_allclose(together.landmarks[1, :4], alone.landmarks[0], atol=1e-13)
    np.testing.assert_array_equal(together.num_steps[1, :4], alone.num_steps[0])
    np.testing.assert_array_equal(np.isfinite(together.landmarks[..., 0, 0]), mask)
    np.testing.assert_array_equal(together.ok, mask)
    assert np.all(together.num_evaluations[~mask] == 0)


@pytest.mark.parametrize("how", ["reset", "lost", "broken"])
def test_a_frame_without_a_past_is_a_still(variables, how):
    clip = noisy_clip()
    again = 3 if how == "reset" else 4
    named = {}
    if how == "reset":
        named["reset"] = np.broadcast_to(np.arange(FRAMES) == 3, clip.shape[:2])
    elif how == "lost":
        named["mask"] = np.broadcast_to(np.arange(FRAMES) != 3, clip.shape[:2])
    else:
        clip[:, 3, 8, 8] = np.nan
    prediction = run(variables, rwr.RwRConfig(penalty=2.0), clip, **named)
    alone = stills(variables, clip)
    np.testing.assert_allclose(prediction.landmarks[:, again], alone[:, again], atol=1e-13)
    if how != "reset":
        assert np.all(np.isnan(prediction.landmarks[:, 3])) and not prediction.ok[:, 3].any()
    # The frame after it follows again.
    assert np.abs(prediction.landmarks[:, again + 1] - alone[:, again + 1]).max() > 1e-5


# Motion.


def test_a_state_is_held_in_the_frame_or_in_the_crop(variables):
    centres = np.array([[[3.0, 4], [4, 3], [3.5, 3.5], [4, 4], [3, 3]]])
    state = state_of(centres, size=SIZE // 4)._replace(heatmaps=blobs(centres, 0.7, SIZE // 4))
    image = normalise_image(jnp.asarray(noisy_clip(rows=1)[:, 0]))
    moved = shift(4, -2)[None]  # pixels of the image; a heatmap pixel is four of them
    for align, expected in (("crop", centres - [1, -0.5]), ("none", centres)):
        config = rwr.RwRConfig(penalty=1e9, align=align)
        prediction, _ = step(
            MODEL, variables, config, image, state, frame_from_crop=jnp.asarray(moved)
        )
        np.testing.assert_allclose(SIZE // 4 * prediction.landmarks, expected, atol=0.02)


def test_crop_motion_is_that_of_a_resting_point():
    before, now = matrices([1.1, 0.2, 5, 7]), matrices([0.9, -0.1, 8, 3])
    now_from_before = crop_motion(jnp.asarray(before)[None], jnp.asarray(now)[None])[0]
    point = np.array([3.0, 5.0, 1])  # heatmap pixels; a crop pixel is a quarter of one
    quarter = np.diag([4, 4, 1.0])
    np.testing.assert_allclose(
        now @ quarter @ np.asarray(now_from_before) @ point, before @ quarter @ point, atol=1e-12
    )


def test_a_resting_point_keeps_its_place_in_the_frame_whatever_the_first_column_stands_for(
    variables,
):
    model = dataclasses.replace(MODEL, readout_offset=0.375)
    centres = np.array([[[3.0, 4], [4, 3], [3.5, 3.5], [4, 4], [3, 3]]])
    state = state_of(centres, size=SIZE // 4)._replace(heatmaps=blobs(centres, 0.9, SIZE // 4))
    image = normalise_image(jnp.asarray(noisy_clip(rows=1)[:, 0]))
    now = jnp.asarray(matrices([1.5, 0, -7, -8]))[None]  # the crop zooms out
    config = rwr.RwRConfig(penalty=1e9, align="crop")
    prediction, _ = step(model, variables, config, image, state, frame_from_crop=now)
    in_frame = carried(np.asarray(now), SIZE * np.asarray(prediction.landmarks))
    np.testing.assert_allclose(in_frame, 4 * (centres + 0.375), atol=0.3)


TURNS = np.stack([matrices([1.05, 0.1, -2.0, 0.5]), matrices([0.95, -0.05, 1.0, 1.5])])


def state_of(points, moving=None, size=24):
    """A state of sharp blobs at (B, K, 2) points, in crops that are the frame."""
    rows = len(points)
    return rwr.RwRState(
        heatmaps=blobs(points, 1.2, size),
        frame_from_crop=jnp.eye(3)[None].repeat(rows, axis=0),
        motion=jnp.zeros((rows, 4)) if moving is None else jnp.asarray(moving),
        valid=jnp.ones(rows, bool),
    )


def carried(matrix, points):
    return points @ matrix[..., :2, :2].swapaxes(-1, -2) + matrix[..., None, :2, 2]


def follow_face(state, seen, follow, interval=1 / 25, sigma=1.2):
    """now_from_before and motion after a face was seen at (B, K, 2) points."""
    rest, interval = jnp.eye(3)[None].repeat(len(seen), axis=0), jnp.full(len(seen), interval)
    expected, moving = predict_motion(state.heatmaps, state.motion, rest, interval)
    now = blobs(seen, sigma, state.heatmaps.shape[1])
    return update_motion(state.heatmaps, now, expected, moving, follow, interval)


def test_face_motion_is_the_similarity_between_landmarks():
    points = np.random.default_rng(1).uniform(7, 17, (2, 12, 2))
    found, _ = follow_face(state_of(points), carried(TURNS, points), 1.0)
    np.testing.assert_allclose(found, TURNS, atol=0.02)


def test_a_motion_foreseen_is_no_surprise():
    points = np.random.default_rng(1).uniform(9, 15, (1, 12, 2))
    moving = np.array([[0.03, -0.05, 0.6, -0.4]])
    state = state_of(points, moving)
    expected, left = predict_motion(
        state.heatmaps, state.motion, jnp.eye(3)[None], jnp.full(1, 0.04)
    )
    np.testing.assert_allclose(left, 0.8 * moving, atol=1e-12)
    seen = carried(np.asarray(expected), points)
    found, after = follow_face(state, seen, 0.5)
    np.testing.assert_allclose(found, expected, atol=0.01)
    np.testing.assert_allclose(after, left, atol=0.01)


def test_follow_believes_its_share():
    points = np.random.default_rng(1).uniform(9, 15, (1, 12, 2))
    found, moving = follow_face(state_of(points), points + [2.0, -1.0], 0.4)
    np.testing.assert_allclose(found[0, :2, 2], [0.8, -0.4], atol=0.01)
    # As an alpha-beta filter whose velocity falls by a fifth per frame, the next frame goes by:
    expected = 0.8 * 0.4**2 / (2 - 0.4) * np.array([2, -1])
    way, _ = predict_motion(blobs(points), moving, jnp.eye(3)[None], jnp.full(1, 0.04))
    np.testing.assert_allclose(way[0, :2, 2], expected, atol=0.01)


@pytest.mark.parametrize("times_as_broad", [1, 2])
def test_a_face_seen_vaguely_moves_less(times_as_broad):
    points = np.random.default_rng(1).uniform(9, 15, (1, 12, 2))
    state, seen = state_of(points), points + [2.0, -1.0]
    found, _ = follow_face(state, seen, 0.8, sigma=1.2 * times_as_broad)
    # Kalman's gain of these variances, in units of that of equal ones.
    share = 0.8 * 2 / (1 + times_as_broad**2)
    np.testing.assert_allclose(found[0, :2, 2], share * np.array([2, -1]), atol=0.05)


def test_landmarks_seen_vaguely_count_less_in_the_motion():
    points = np.random.default_rng(1).uniform(9, 15, (1, 12, 2))
    seen = points + 0.5
    seen[0, 0] += 3  # astray
    broad = blobs(seen, np.where(np.arange(12) == 0, 3.0, 1.2), 24)
    state = state_of(points)
    rest, interval = jnp.eye(3)[None], jnp.full(1, 0.04)
    expected, moving = predict_motion(state.heatmaps, state.motion, rest, interval)
    errors = []
    for now in (blobs(seen, 1.2, 24), broad):
        found, _ = update_motion(state.heatmaps, now, expected, moving, 1.0, interval)
        errors.append(np.abs(carried(np.asarray(found), points) - points - 0.5).max())
    assert errors[1] < errors[0] / 2


def test_motion_is_one_of_the_frame_whatever_the_crop():
    # The crop zooms out by two and turns by a right angle: so does the motion, seen in it.
    state = state_of(np.full((1, 3, 2), 11.0) + [[0, 0], [2, 1], [1, 3]], [[0, 0, 5.0, 2.0]])
    now = jnp.asarray(2 * matrices([0, 1, 0, 0]) + np.diag([0, 0, -1.0]))[None]
    rest = crop_motion(state.frame_from_crop, now)
    _, moving = predict_motion(state.heatmaps, state.motion, rest, jnp.full(1, 1e-9))
    in_frame = np.asarray(now)[0, :2, :2] @ np.asarray(moving)[0, 2:]
    np.testing.assert_allclose(in_frame, [5.0, 2.0], atol=1e-6)


def test_a_face_in_steady_motion_is_caught_up_with():
    # Held by a large penalty and half a belief, it still goes where the face goes.
    base, velocity = np.random.default_rng(1).uniform(8, 12, (1, 12, 2)), np.array([0.25, 0.1])
    state, lag = state_of(base), []
    for t in range(1, 16):
        seen = base + t * velocity
        found, moving = follow_face(state, seen, 0.5)
        points = carried(np.asarray(found), 24 * np.asarray(soft_argmax(state.heatmaps)[0]))
        state = state_of(points, moving)
        lag.append(np.abs(points - seen).max())
    assert lag[-1] < 0.5 * np.abs(velocity).max() < max(lag[:4])


def test_moving_by_whole_pixels_and_back():
    rng = np.random.default_rng(2)
    z = jnp.asarray(rng.uniform(size=(2, 9, 9, 3)))
    np.testing.assert_array_equal(move(z, jnp.eye(3)[None].repeat(2, axis=0)), z)
    right = jnp.asarray(shift(2, -1))[None].repeat(2, axis=0)
    moved = move(z, right)
    np.testing.assert_allclose(moved[:, :-1, 2:], z[:, 1:, :-2], atol=1e-12)
    np.testing.assert_allclose(moved[:, :-1, 0], z[:, 1:, 0], atol=1e-12)  # the border goes on


def test_moved_heatmaps_move_their_landmarks():
    points = np.array([[[9.0, 14], [13, 10]]])
    turn = matrices([1.1, 0.15, -1.0, -2.5])
    landmarks, _ = soft_argmax(move(blobs(points), jnp.asarray(turn)[None]))
    expected = points @ turn[:2, :2].T + turn[:2, 2]
    np.testing.assert_allclose(24 * np.asarray(landmarks), expected, atol=0.02)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"penalty": -0.1}, "penalty must not be negative"),
        ({"penalty": (0.1, float("nan"))}, "penalty must not be negative"),
        ({"budget": -1}, "budget must not be negative"),
        ({"follow": 0.0}, "follow must be in"),
        ({"align": "eyes"}, "align must be one of"),
        ({"weighting": "depth"}, "weighting must be one of"),
        ({"budget": 0, "final_evaluation": False}, "a budget of 0 needs"),
        (
            {"budget": 1, "first_budget": 0, "final_evaluation": False},
            "a first_budget of 0 needs",
        ),
    ],
)
def test_a_config_that_makes_no_sense(fields, message):
    with pytest.raises(ValueError, match=message):
        rwr.RwRConfig(**fields)
