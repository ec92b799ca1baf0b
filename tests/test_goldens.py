"""Released checkpoints, as they are converted, against their numbers: float64, seeded weights."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_weights import released_args, released_weights

from ldeq_jax.deq.solver import SolverConfig
from ldeq_jax.interop.released import RELEASED_RWR, from_released, to_released
from ldeq_jax.model import heatmap, rwr
from ldeq_jax.model.hourglass import Stem
from ldeq_jax.model.ldeq import LDEQ, hourglass_map

FOLDER = Path(__file__).parent / "goldens"
CASES = [
    (file, case)
    for file in ("early_stop", "converged")
    for case in json.loads(str(np.load(FOLDER / f"{file}.npz")["meta"]))["cases"]
]
pytestmark = pytest.mark.usefixtures("x64")


class Golden:
    """One file, with its weights, its input and the model they belong to."""

    def __init__(self, name):
        self.data = np.load(FOLDER / f"{name}.npz")
        self.meta = json.loads(str(self.data["meta"]))
        model, self.variables = self.converted("fpi")
        self.config = model.config
        self.image = nhwc(self.data["input"])

    def converted(self, case):
        """The model with the solver of a case, and its variables."""
        return from_released(released_weights(self.meta), released_args(self.meta, case))

    def scope(self, part):
        """Variables of the stem or the map alone."""
        return {
            collection: tree[part] for collection, tree in self.variables.items() if part in tree
        }


@pytest.fixture(scope="module")
def goldens():
    with jax.enable_x64(True):
        return {name: Golden(name) for name in ("early_stop", "converged")}


def nhwc(array):
    return np.asarray(array, np.float64).transpose(0, 2, 3, 1)


def assert_close(ours, theirs, tolerance=1e-6):
    """Within `tolerance` of the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.parametrize("name", ["early_stop", "converged"])
def test_stem_and_map(goldens, name):
    golden = goldens[name]
    stem = Stem(golden.config.injection_width, dtype=jnp.float64)
    x = jax.jit(stem.apply)(golden.scope("stem"), golden.image)
    assert_close(x, nhwc(golden.data["stem"]))
    z = nhwc(golden.data["map_input_z"])
    assert_close(
        jax.jit(hourglass_map(golden.config).apply)(golden.scope("map"), z, x),
        nhwc(golden.data["map"]),
        1e-10,
    )


# Quick: each method once, stopped early and converged, each way to stop and to end; slow: the rest.
QUICK = {
    ("early_stop", "fpi_one_less"),
    ("early_stop", "anderson_damped"),
    ("early_stop", "broyden"),
    ("converged", "anderson"),
    ("converged", "fpi_abs"),
}


@pytest.mark.parametrize(
    ("name", "case"),
    [pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow) for each in CASES],
)
def test_every_solver_case(goldens, name, case):
    golden = goldens[name]
    model, variables = golden.converted(case)
    prediction = jax.jit(functools.partial(model.apply, trace=True))(variables, golden.image)
    assert_close(prediction.landmarks, golden.data[f"{case}/landmarks"])
    assert_close(prediction.state, nhwc(golden.data[f"{case}/z"]))
    assert_close(heatmap.released_spread(prediction.state), golden.data[f"{case}/spread"])
    steps, residual = golden.data[f"{case}/steps_residual"].T
    np.testing.assert_array_equal(prediction.info.num_steps, steps)
    if model.config.forward.stop == "rel":  # the released code reports it for "abs" as well
        info, method = prediction.info, model.config.forward.method
        # Of plain iteration it is the residual of the last step, before the final evaluation's.
        last = np.take_along_axis(info.trace, info.num_steps[:, None] - 1, axis=1)[:, 0]
        # Its Anderson adds the 1e-5 to each element of f(z) rather than to the norm.
        tolerance = 1e-4 if method == "anderson" else 1e-6
        ours = last if method == "picard" else info.residual
        np.testing.assert_allclose(ours, residual, rtol=tolerance)


@pytest.mark.parametrize(
    ("name", "key", "gradient", "max_steps"),
    [
        ("early_stop", "jfb", "one_step", 6),
        ("converged", "implicit_fpi", "implicit", 20),
        pytest.param("converged", "jfb", "one_step", 6, marks=pytest.mark.slow),
        pytest.param("early_stop", "implicit_fpi", "implicit", 20, marks=pytest.mark.slow),
    ],
)
def test_gradients_in_training_mode(goldens, name, key, gradient, max_steps):
    golden = goldens[name]
    # The map of early_stop expands: 20 forward and 20 adjoint steps amplify by 1e12, and changing
    # the input by one unit in the last place moves this gradient by 1e-5 to 4e-5 of its size. No
    # two programs agree better than that; every other gradient here is held to 1e-6.
    tolerance = 3e-4 if (name, gradient) == ("early_stop", "implicit") else 1e-6
    solver = SolverConfig(max_steps=max_steps, tol=0.0, best_iterate=False, divergence_ratio=np.inf)
    backward = dataclasses.replace(solver, final_evaluation=False)
    model = LDEQ(
        dataclasses.replace(golden.config, forward=solver, backward=backward, gradient=gradient)
    )

    def loss(params):
        prediction, _ = model.apply(
            golden.variables | {"params": params}, golden.image, train=True, mutable="batch_stats"
        )
        return jnp.mean(jnp.square(prediction.landmarks - golden.data["gradient_target"]))

    value, gradients = jax.jit(jax.value_and_grad(loss))(golden.variables["params"])
    np.testing.assert_allclose(value, golden.data[f"{key}/loss"], rtol=1e-8)
    named, _ = to_released(model, golden.variables | {"params": gradients})
    compared = 0
    for entry in golden.data.files:
        if not entry.startswith(f"{key}/grad/"):
            continue
        name = entry.removeprefix(f"{key}/grad/")
        ours, theirs = named[name], golden.data[entry]
        if name == "deq_layer.cell.head.conv.bias":
            # Heatmaps do not change when a constant is added to the logits: both are rounding.
            scale = np.abs(golden.data[f"{key}/grad/deq_layer.cell.head.conv.weight"]).max()
            assert np.abs(ours).max() < 1e-12 * scale and np.abs(theirs).max() < 1e-12 * scale
        else:
            assert_close(ours, theirs, tolerance)
        compared += 1
    assert compared == 5


def test_the_released_spread_mixes_units():
    """It equals the deviation about the mean's normalised value, which ours does not."""
    z = np.zeros((1, 8, 8, 1))
    z[0, 2, 6, 0] = 1.0
    weight = 1 / (1 + 1e-4)
    x, y = 6 * weight / 8, 2 * weight / 8
    expected = np.sqrt(weight * ((6 - x) ** 2 + (2 - y) ** 2) / 2) / 8
    np.testing.assert_allclose(heatmap.released_spread(jnp.asarray(z)), [[expected]], rtol=1e-12)
    np.testing.assert_allclose(heatmap.soft_argmax(jnp.asarray(z))[1], [[0.0]], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "key", "final"),
    [
        ("early_stop", "2_evals", True),
        ("converged", "1_evals", False),
        pytest.param("converged", "2_evals", True, marks=pytest.mark.slow),
        pytest.param("early_stop", "1_evals", False, marks=pytest.mark.slow),
    ],
)
def test_released_recurrence(goldens, name, key, final):
    golden = goldens[name]
    config = dataclasses.replace(RELEASED_RWR, final_evaluation=final)
    state = rwr.initial_state(golden.config, 1)
    step, landmarks = jax.jit(rwr.step, static_argnums=0), []
    for image in nhwc(golden.data["rwr/clip"]):
        prediction, state = step(golden.config, golden.variables, config, image[None], state)
        landmarks.append(prediction.landmarks[0])
        assert prediction.num_evaluations == 1 + final
    assert_close(landmarks, golden.data[f"rwr/landmarks_{key}"])
