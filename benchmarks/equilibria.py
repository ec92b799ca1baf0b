"""How fast a map's iteration converges, and how many equilibria it finds, for `benchmarks.why`."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse.csgraph import connected_components

from benchmarks.degraded import Clips, noise
from benchmarks.gains import Tracker
from ldeq_jax.deq.diagnostics import spectral_radius
from ldeq_jax.deq.rows import Map
from ldeq_jax.mesh import to_devices
from ldeq_jax.model import heatmap, rwr
from ldeq_jax.model.ldeq import ModelConfig, equation, inject, normalise_image
from ldeq_jax.model.motion import crop_motion, predict_motion

EVALUATIONS = 30
CONVERGED = 1e-3  # residual
NOISE = 10.0  # grey levels, of `Explored.response`
TOLERANCE = 1.0  # percent of the eye distance: closer landmarks are those of one equilibrium
IN_PLACE = "last state, not moved"


class Explored(NamedTuple):
    """Iteration from S starts in B frames; lengths in percent of the eye distance.

    Attributes:
        names: of the starts; the first is "zeros".
        residual: (S, N, B) of each evaluation.
        nme: (S, N, B) error of the landmarks after each evaluation.
        apart: (S, N, B) their mean distance to those found from zeros in the end.
        response: (N, B) mean distance that landmarks move, after each evaluation, if noise comes
            into the picture while the state is at the equilibrium from zeros.
        spread: (B,) largest distance of the landmarks found from two starts, mean over landmarks.
        number: (B,) of equilibria, among the starts that converged; 0 where none has.
        radius: (B,) spectral radius of df/dz at the equilibrium from zeros.
        survives_apart: (B,) percent of a displacement of the state by a heatmap pixel that one
            evaluation leaves, each landmark in its own direction.
        survives_together: (B,) the same, all landmarks in one direction.
    """

    names: tuple[str, ...]
    residual: np.ndarray
    nme: np.ndarray
    apart: np.ndarray
    response: np.ndarray
    spread: np.ndarray
    number: np.ndarray
    radius: np.ndarray
    survives_apart: np.ndarray
    survives_together: np.ndarray


def explore(tracker: Tracker, clips: Clips, state: rwr.RwRState, seed: int) -> Explored:
    """Iterates from many starts in one frame of each clip.

    Args:
        tracker: the model.
        clips: one frame of each.
        state: what the frame before has left.
        seed: of random starts.
    """
    f, prepare, radius_of = programs(tracker.model)
    matrices = clips.frame_from_crop[:, 0].astype(np.float32)
    where = to_devices(tracker.mesh, (matrices, clips.intervals()[:, 0]))
    image = to_devices(tracker.mesh, clips.image[:, 0])
    theta, last = prepare(tracker.variables, image, state, *where)
    zeros = jnp.zeros_like(last)
    found, *_ = iterate(f, theta, zeros, EVALUATIONS)
    noisy = to_devices(tracker.mesh, clips.degraded(noise(NOISE)).image[:, 0])
    with_noise, _ = prepare(tracker.variables, noisy, state, *where)
    shaken = np.asarray(iterate(f, with_noise, found, EVALUATIONS)[2])
    named = starts(zeros, last, found, seed) | {IN_PLACE: state.heatmaps}
    solved = [iterate(f, theta, z0, EVALUATIONS)[1:] for z0 in named.values()]
    residual, points = (np.stack(jax.device_get(of)) for of in zip(*solved, strict=True))

    target = clips.labels()[:, 0]
    left, right = tracker.schema.eye_corners
    eyes = np.linalg.norm(target[:, left] - target[:, right], axis=-1)[:, None, None] / 100
    points, shaken, target = points / eyes, shaken / eyes, target / eyes
    end, names = points[:, -1], tuple(named)
    number = points.shape[-2]
    angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, number)
    ways = np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)
    return Explored(
        names=names,
        residual=residual,
        nme=np.linalg.norm(points - target, axis=-1).mean(axis=-1),
        apart=np.linalg.norm(points - end[0], axis=-1).mean(axis=-1),
        response=np.linalg.norm(shaken - end[0], axis=-1).mean(axis=-1),
        spread=np.linalg.norm(end[:, None] - end, axis=-1).mean(axis=-1).max(axis=(0, 1)),
        number=np.array(
            [
                count_distinct(end[residual[:, -1, i] < CONVERGED, i], TOLERANCE)
                for i in range(len(target))
            ]
        ),
        radius=np.asarray(radius_of(theta, found)),
        survives_apart=100 * np.asarray(survival(f, theta, found, ways)),
        survives_together=100 * np.asarray(survival(f, theta, found, ways[:1].repeat(number, 0))),
    )


def summary(explored: Sequence[Explored]) -> dict:
    """Means over all frames of all that was explored, for tables and plots.

    Returns:
        curves: by start, after each evaluation: residual (geometric mean), nme, apart; response,
        after each evaluation; spread of each frame; and two tables of numbers, ends and map.
    """
    joined = Explored(
        explored[0].names,
        *(np.concatenate(of, axis=-1) for of in list(zip(*explored, strict=True))[1:]),
    )
    converged = joined.residual[:, -1] < CONVERGED
    moved = joined.apart[joined.names.index("last state"), -1] > TOLERANCE
    return {
        "curves": {
            name: {
                "residual": np.exp(np.log(1e-12 + joined.residual[i]).mean(axis=-1)),
                "nme": joined.nme[i].mean(axis=-1),
                "apart": joined.apart[i].mean(axis=-1),
            }
            for i, name in enumerate(joined.names)
        },
        "response": joined.response.mean(axis=-1),
        "spread": joined.spread,
        "ends": {
            "solves": converged.size,
            "converged (%)": 100 * converged.mean(),
            "frames with one equilibrium (%)": 100 * np.mean(joined.number == 1),
            "with several (%)": 100 * np.mean(joined.number > 1),
            "most in a frame": int(joined.number.max()),
            "frames in which the last state leads elsewhere (%)": 100 * moved.mean(),
            "NME from zeros (%)": joined.nme[joined.names.index("zeros"), -1].mean(),
            "NME from the last state (%)": joined.nme[joined.names.index("last state"), -1].mean(),
        },
        "map": {
            "spectral radius": joined.radius.mean(),
            "spectral radius, largest": joined.radius.max(),
            "moved by noise, 1 evaluation": joined.response[0].mean(),
            "moved by noise, equilibrium": joined.response[-1].mean(),
            "survives, each landmark apart (%)": joined.survives_apart.mean(),
            "survives, face as a whole (%)": joined.survives_together.mean(),
        },
    }


@functools.cache
def programs(model: ModelConfig):
    """The map; and jitted: theta of images and the state expected in them; spectral radius."""
    f = equation(model)

    def prepare(variables, image, state, frame_from_crop, interval):
        theta = inject(model, variables, normalise_image(image).astype(model.dtype))
        rest = crop_motion(state.frame_from_crop, frame_from_crop, model.readout_offset)
        expected, _ = predict_motion(state.heatmaps, state.motion, rest, interval)
        return theta, heatmap.move(state.heatmaps, expected)

    def radius(theta, z):
        return spectral_radius(f, theta, z, jax.random.key(0), num_iters=30)

    return f, jax.jit(prepare), jax.jit(radius)


@functools.partial(jax.jit, static_argnames=("f", "count"))
def iterate(
    f: Map, theta: Any, z0: jax.Array, count: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`z <- f(theta, z)`, without a stop.

    Args:
        f: the map of heatmaps.
        theta: its parameters.
        z0: (B, h, w, K) start.
        count: number of evaluations N.

    Returns:
        The last state; (N, B) residuals `||f(z) - z|| / ||f(z)||`; and (N, B, K, 2) landmarks read
        after each evaluation.
    """

    def evaluation(z, _):
        value = f(theta, z)
        axes = tuple(range(1, z.ndim))
        size = jnp.sqrt(jnp.sum(value**2, axis=axes))
        residual = jnp.sqrt(jnp.sum((value - z) ** 2, axis=axes)) / (1e-5 + size)
        return value, (residual, heatmap.soft_argmax(value)[0])

    z, (residual, landmarks) = jax.lax.scan(evaluation, z0, length=count)
    return z, residual, landmarks


def count_distinct(points: np.ndarray, tolerance: float) -> int:
    """Number of groups of landmarks that chains of near neighbours do not join.

    Args:
        points: (S, K, 2) landmarks of one face from S starts.
        tolerance: largest distance of near neighbours, of the landmark that differs most.
    """
    if not len(points):
        return 0
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1).max(axis=-1)
    return int(connected_components(apart <= tolerance)[0])


def starts(zeros: jax.Array, last: jax.Array, found: jax.Array, seed: int) -> dict[str, jax.Array]:
    """States to start from, near and far.

    Args:
        zeros: (B, h, w, K).
        last: the same, state of the last frame moved with the face.
        found: the same, the equilibrium of each frame from zeros.
        seed: of the random ones.
    """
    rng = np.random.default_rng(seed)
    rows, size, _, num_landmarks = zeros.shape
    named = {"zeros": zeros, "last state": last}
    named["another face"] = jnp.roll(found, 1, axis=0)
    named["landmarks exchanged"] = found[..., rng.permutation(num_landmarks)]
    named["flat"] = jnp.ones_like(zeros)
    places = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1)
    for number in (1, 2):
        peak = rng.uniform(0, size, (rows, 1, 1, num_landmarks, 2))
        distance = ((places[:, :, None] - peak) ** 2).sum(axis=-1)
        named[f"random peaks {number}"] = jnp.exp(-jnp.asarray(distance, zeros.dtype) / 8)
    named["random pixels"] = jnp.asarray(rng.uniform(size=zeros.shape), zeros.dtype)
    return named


@functools.partial(jax.jit, static_argnames="f")
def survival(f: Map, theta: Any, z: jax.Array, moves: jax.Array) -> jax.Array:
    """Share of a displacement of the state that one evaluation leaves in the landmarks.

    Args:
        f: the map of heatmaps.
        theta: its parameters.
        z: (B, h, w, K) equilibrium.
        moves: (K, 2) displacement of each landmark, heatmap pixels, x then y.

    Returns:
        (B,) mean over landmarks: 0 where the map forgets where its state was, 1 where it believes
        it, negative where it moves the other way.
    """

    def moved(k):
        to_from = jnp.eye(3, dtype=z.dtype).at[:2, 2].set(moves[k])
        return heatmap.move(z[..., k : k + 1], jnp.broadcast_to(to_from, (len(z), 3, 3)))

    displaced = jnp.concatenate([moved(k) for k in range(z.shape[-1])], axis=-1)

    def along(a, b):
        difference = heatmap.soft_argmax(a)[0] - heatmap.soft_argmax(b)[0]
        return jnp.sum(difference * moves[None], axis=(1, 2))

    return along(f(theta, displaced), f(theta, z)) / along(displaced, z)
