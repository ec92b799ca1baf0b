"""Laws of heatmaps, the map and the model."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldeq_jax.deq.solver import SolverConfig
from ldeq_jax.model import heatmap
from ldeq_jax.model.hourglass import HourglassMap
from ldeq_jax.model.layers import ConvUnit, GroupNorm
from ldeq_jax.model.ldeq import (
    LDEQ,
    ModelConfig,
    equation,
    inject,
    normalise_image,
    variable_shapes,
)

SMALL = ModelConfig(
    num_landmarks=5,
    image_size=64,
    injection_width=16,
    base_width=8,
    width_increment=8,
    depth=2,
    residual_kernel=3,
    temperature=0.05,  # flat heatmaps: the untrained map contracts
    stem_norm="group",
    forward=SolverConfig(max_steps=4),
    backward=SolverConfig(max_steps=4),
)


def images(count, size=64, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((count, size, size, 3), np.float32))


@pytest.fixture(scope="module")
def small():
    model = LDEQ(SMALL)
    return model, jax.jit(model.init)(jax.random.key(0), images(1))


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def test_released_size():
    shapes = jax.eval_shape(
        LDEQ(ModelConfig()).init, jax.random.key(0), jnp.zeros((1, 256, 256, 3))
    )["params"]
    assert count(shapes["stem"]) == 403_128
    assert count(shapes["map"]) == 21_422_018
    assert count(shapes) == 21_825_146


def test_normalised_heatmaps_peak_at_one():
    logits = 5 * jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    z = heatmap.normalise(logits, 0.3)
    assert (z > 0).all() and (z <= 1).all()
    np.testing.assert_array_equal(z.max(axis=(1, 2)), 1)
    np.testing.assert_allclose(heatmap.normalise(logits + 7, 0.3), z, rtol=1e-5)
    np.testing.assert_allclose(jnp.log(z), 0.3 * (logits - logits.max(axis=(1, 2), keepdims=True)),
                               atol=1e-5)  # fmt: skip


def test_a_single_pixel_reads_as_its_column_and_row():
    z = np.zeros((1, 16, 16, 2))
    z[0, 3, 10, 0] = z[0, 15, 0, 1] = 1e4  # heavy: the 1e-4 in the denominator vanishes
    landmarks, spread = heatmap.soft_argmax(jnp.asarray(z))
    np.testing.assert_allclose(landmarks[0], [[10 / 16, 3 / 16], [0, 15 / 16]], rtol=1e-6)
    np.testing.assert_allclose(spread[0], [0, 0], atol=1e-4)


def test_with_the_pixel_centres_offset_mirror_images_read_as_mirror_images():
    """A heatmap pixel covers 4 x 4 pixels of the crop, and the crop's last one is size - 1."""
    z = 1e3 * jax.random.uniform(jax.random.key(0), (1, 16, 16, 3))
    (landmarks, spread), (mirrored, same) = (
        heatmap.soft_argmax(image, offset=0.375) for image in (z, z[:, :, ::-1])
    )
    np.testing.assert_allclose(64 * mirrored[..., 0], 63 - 64 * landmarks[..., 0], atol=1e-4)
    np.testing.assert_allclose(mirrored[..., 1], landmarks[..., 1], atol=1e-6)
    np.testing.assert_allclose(spread, same, rtol=1e-4)
    released, unchanged = heatmap.soft_argmax(z)
    np.testing.assert_allclose(landmarks - released, 0.375 / 16, atol=1e-6)
    np.testing.assert_allclose(spread, unchanged, rtol=1e-4)


def test_spread_is_the_deviation_of_a_gaussian_wherever_it_sits():
    rows, columns = np.mgrid[:64, :64]
    z = np.stack(
        [
            1e3 * np.exp(-((columns - x) ** 2) / (2 * 3**2) - (rows - y) ** 2 / (2 * 4**2))
            for x, y in ((20, 25), (31.5, 40))
        ],
        axis=-1,
    )[None]
    landmarks, spread = heatmap.soft_argmax(jnp.asarray(z))
    np.testing.assert_allclose(landmarks[0] * 64, [[20, 25], [31.5, 40]], rtol=1e-4)
    np.testing.assert_allclose(spread[0] * 64, np.full(2, np.sqrt((9 + 16) / 2)), rtol=1e-3)


def test_strided_convolution_pads_both_sides():
    """A picture and its mirror image give mirrored features only when padding is symmetric."""
    unit = ConvUnit(4, kernel=7, stride=2, groups=2)
    x = images(1, 17)  # odd, so that the stride starts at either end alike
    variables = unit.init(jax.random.key(0), x)
    mirrored = jax.tree.map(lambda a: a, variables)
    mirrored["params"]["conv"]["kernel"] = variables["params"]["conv"]["kernel"][:, ::-1]
    np.testing.assert_allclose(
        unit.apply(mirrored, x[:, :, ::-1])[:, :, ::-1], unit.apply(variables, x), atol=1e-5
    )


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_our_group_norm_is_the_library_one(groups, x64):
    x = jnp.asarray(3 + np.random.default_rng(1).standard_normal((2, 4, 5, 6)))
    ours, theirs = GroupNorm(groups, epsilon=1e-3), nn.GroupNorm(groups, epsilon=1e-3)
    params = {"scale": jnp.arange(1.0, 7), "bias": jnp.arange(-2.0, 4)}

    def loss(norm, params, x):
        return jnp.sum(jnp.sin(norm.apply({"params": params}, x)))

    for value, expected in zip(
        jax.tree.leaves(jax.value_and_grad(loss, (1, 2))(ours, params, x)),
        jax.tree.leaves(jax.value_and_grad(loss, (1, 2))(theirs, params, x)),
        strict=True,
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("changes", [{}, {"stem_norm": "batch", "learn_temperature": True}])
def test_the_shapes_of_variables_are_those_of_a_new_model(changes):
    config = dataclasses.replace(SMALL, **changes)
    image = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)
    made = jax.eval_shape(LDEQ(config).init, jax.random.key(0), image)
    assert variable_shapes(config) == {"batch_stats": {}} | dict(made)


def test_the_map_is_traced_once_for_all_places_of_a_program(monkeypatch):
    """Tracing takes most of the time of a start."""
    refine, calls = HourglassMap.refine, []

    def counted(self, z, injected):
        calls.append(z)
        return refine(self, z, injected)

    monkeypatch.setattr(HourglassMap, "refine", counted)
    config = dataclasses.replace(SMALL, temperature=0.0625)  # no other test has traced it
    f = equation(config)
    image = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)
    variables = variable_shapes(config)
    calls.clear()

    def program(variables, image, z):
        theta = inject(config, variables, image)
        z = jax.lax.fori_loop(0, 3, lambda _, z: f(theta, z), z)
        return f(theta, f(theta, z))

    side = config.heatmap_size
    z = jax.ShapeDtypeStruct((1, side, side, config.num_landmarks), jnp.float32)
    jax.jit(program).lower(variables, image, z)
    assert len(calls) == 1


def test_what_the_injection_says_is_computed_once(x64):
    """Iterating with it is iterating the map, at the cost of the 1x1 product with x less."""
    z = jnp.asarray(np.random.default_rng(1).random((2, 8, 8, 3)))
    x = jnp.asarray(np.random.default_rng(2).standard_normal((2, 8, 8, 16)))
    f = HourglassMap(num_landmarks=3, injection_width=16, width=8, width_increment=8, depth=1)
    variables = jax.jit(f.init)(jax.random.key(0), z, x)
    injected = f.apply(variables, x, method="inject")
    refine = functools.partial(f.apply, method="refine")
    whole, rest = (
        jax.jit(function)(variables, z, to) for function, to in ((f.apply, x), (refine, injected))
    )
    np.testing.assert_allclose(rest, whole, rtol=1e-12)

    def flops(function, *arguments):
        return jax.jit(function).lower(variables, *arguments).cost_analysis()["flops"]

    saved = flops(f.apply, z, x) - flops(refine, z, injected)
    assert saved >= 2 * x.size * 8


@pytest.mark.slow
def test_rematerialisation_changes_no_gradient():
    """But nothing inside the map is kept: an unrolled gradient takes less memory."""
    forward = dataclasses.replace(SMALL.forward, max_steps=3, tol=0.0)
    plain = dataclasses.replace(SMALL, depth=1, forward=forward, gradient="unrolled")
    variables = jax.jit(LDEQ(plain).init)(jax.random.key(0), images(1))
    memory, gradients = [], []
    for remat in (False, True):
        changed = dataclasses.replace(plain, remat=remat)

        def loss(params, network):
            return jnp.sum(network.apply({"params": params}, images(2)).landmarks ** 2)

        gradient = jax.jit(jax.grad(loss), static_argnums=1)
        compiled = gradient.lower(variables["params"], LDEQ(changed)).compile()
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
        gradients.append(compiled(variables["params"]))
    assert memory[1] < 0.6 * memory[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), *gradients)


def test_the_learned_temperature_starts_at_the_fixed_one_and_is_trained():
    z, x = jnp.zeros((1, 16, 16, 3)), jax.random.normal(jax.random.key(1), (1, 16, 16, 8))
    options = {"num_landmarks": 3, "width": 8, "width_increment": 8, "depth": 1}
    options |= {"temperature": 0.7, "injection_width": 8}
    fixed = HourglassMap(**options)
    learned = HourglassMap(**options, learn_temperature=True)
    params = jax.jit(learned.init)(jax.random.key(0), z, x)["params"]
    without = {name: leaf for name, leaf in params.items() if name != "log_temperature"}
    np.testing.assert_allclose(
        jax.jit(learned.apply)({"params": params}, z, x),
        jax.jit(fixed.apply)({"params": without}, z, x),
        rtol=1e-5,
    )
    gradient = jax.jit(jax.grad(lambda p: learned.apply({"params": p}, z, x).sum()))(params)
    assert gradient["log_temperature"] < 0  # a sharper map has less mass


def test_the_prediction_is_an_equilibrium(small):
    model, variables = small
    forward = SolverConfig(max_steps=60, tol=1e-6)
    model = LDEQ(dataclasses.replace(SMALL, forward=forward))
    prediction = jax.jit(model.apply)(variables, images(2))
    assert prediction.info.converged.all()
    again = jax.jit(model.apply)(variables, images(2), z0=prediction.state, budget=1)
    np.testing.assert_allclose(again.state, prediction.state, atol=1e-5)
    assert prediction.landmarks.shape == (2, 5, 2) and prediction.spread.shape == (2, 5)
    assert prediction.state.shape == (2, 16, 16, 5)


def test_the_model_reads_its_heatmaps_with_the_offset(small):
    model, variables = small
    other = LDEQ(dataclasses.replace(SMALL, readout_offset=0.375))
    found, shifted = (jax.jit(m.apply)(variables, images(1)) for m in (model, other))
    np.testing.assert_allclose(shifted.landmarks, found.landmarks + 0.375 / 16, atol=1e-5)
    np.testing.assert_array_equal(shifted.state, found.state)


def test_a_face_does_not_depend_on_its_batch(small):
    model, variables = small
    batch = jax.jit(model.apply)(variables, images(4))
    for row in range(4):
        alone = jax.jit(model.apply)(variables, images(4)[row : row + 1])
        np.testing.assert_allclose(batch.landmarks[row], alone.landmarks[0], atol=2e-6)
        assert batch.info.num_steps[row] == alone.info.num_steps[0]


def test_uint8_and_floating_pictures_mean_the_same():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    ours = normalise_image(jnp.asarray(pixels))
    np.testing.assert_allclose(
        ours, normalise_image(jnp.asarray(pixels / np.float32(255))), rtol=1e-5
    )
    white = normalise_image(jnp.full((1, 1, 1, 3), 255, jnp.uint8))[0, 0, 0]
    np.testing.assert_allclose(white, [2.2489, 2.4286, 2.64], atol=1e-3)
    with pytest.raises(TypeError, match="int32"):
        normalise_image(jnp.zeros((1, 4, 4, 3), jnp.int32))


def test_wrong_sizes_are_refused(small):
    model, variables = small
    with pytest.raises(ValueError, match=r"\(B, 64, 64, 3\)"):
        model.apply(variables, images(1, 32))
    with pytest.raises(ValueError, match="image_size 100"):
        ModelConfig(image_size=100)
    with pytest.raises(ValueError, match="base_width 30"):
        ModelConfig(base_width=30)


def test_bfloat16_keeps_the_solver_in_float32(small):
    model, variables = small
    half = LDEQ(dataclasses.replace(SMALL, dtype="bfloat16"))
    prediction = jax.jit(half.apply)(variables, images(2))
    assert prediction.state.dtype == prediction.landmarks.dtype == jnp.float32
    np.testing.assert_allclose(
        prediction.landmarks, jax.jit(model.apply)(variables, images(2)).landmarks, atol=0.02
    )
    # Logits of bfloat16 would give many pixels of a heatmap the same value.
    for pixels in np.asarray(prediction.state[0]).reshape(-1, SMALL.num_landmarks).T:
        assert len(np.unique(pixels)) > 0.97 * len(pixels)


def test_the_jacobian_penalty_is_sown_and_differentiable(small):
    model, variables = small

    def penalty(params):
        _, sown = model.apply(
            {"params": params}, images(2), jacobian_key=jax.random.key(3), mutable=["losses"]
        )
        return jnp.mean(sown["losses"]["jacobian"][0])

    value, gradient = jax.jit(jax.value_and_grad(penalty))(variables["params"])
    assert value > 0
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient["map"]))


def test_memory_of_the_implicit_gradient_does_not_grow_with_the_budget():
    def temporary_bytes(gradient, budget):
        solver = SolverConfig(max_steps=budget, tol=0.0)
        model = LDEQ(
            dataclasses.replace(SMALL, depth=1, forward=solver, backward=solver, gradient=gradient)
        )
        params = jax.eval_shape(model.init, jax.random.key(0), images(2))
        step = jax.jit(jax.grad(lambda p, x: model.apply(p, x).landmarks.sum()))
        return step.lower(params, images(2)).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes("implicit", 64) <= 1.05 * temporary_bytes("implicit", 4)
    assert temporary_bytes("unrolled", 8) > 2 * temporary_bytes("unrolled", 2)


def in_double(**changes):
    """A small model in double precision, solved to rounding, with its weights and an image."""
    solver = SolverConfig(method="anderson", max_steps=60, tol=1e-12)
    precise = {"image_size": 32, "depth": 1, "dtype": "float64", "temperature": 1.0}
    config = dataclasses.replace(SMALL, forward=solver, backward=solver, **precise | changes)
    image = images(2, config.image_size).astype(jnp.float64)
    variables = jax.jit(LDEQ(config).init)(jax.random.key(1), image)
    return config, jax.tree.map(lambda a: a.astype(jnp.float64), variables), image


def random_like(tree, seed=4):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), tree)


@pytest.mark.parametrize("width", [8, 128], ids=["narrow", "wide"])
def test_tangents_of_the_map(width, x64):
    """Wide layers are those that a CPU convolves in its own way."""
    config, variables, image = in_double(base_width=width, residual_kernel=5, image_size=64)
    theta, f = inject(config, variables, image), equation(config)
    at = theta, jnp.asarray(np.random.default_rng(0).random((2, 16, 16, 5)))
    along, weights = random_like(at), random_like(at[1], seed=5)

    @jax.jit
    def products(at, along):
        _, tangent = jax.jvp(lambda at: f(*at), (at,), (along,))
        _, pullback = jax.vjp(lambda at: f(*at), at)
        return jnp.sum(weights * tangent), *pullback(weights)

    tangent, cotangents = products(at, along)
    expected = sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), cotangents, along)))
    np.testing.assert_allclose(tangent, expected, rtol=1e-9)


@pytest.mark.parametrize(
    "gradient",
    [
        "implicit",
        "one_step",
        *(pytest.param(g, marks=pytest.mark.slow) for g in ("phantom", "unrolled")),
    ],
)
def test_tangents_of_landmarks_agree_with_the_gradient(gradient, x64):
    config, variables, image = in_double(gradient=gradient)
    forward = LDEQ(dataclasses.replace(config, differentiation="jvp"))
    direction = random_like(variables["params"])

    def loss(params, model):
        return jnp.sum(jnp.sin(5 * model.apply({"params": params}, image).landmarks))

    gradient = jax.jit(jax.grad(lambda p: loss(p, LDEQ(config))))(variables["params"])
    _, tangent = jax.jit(lambda p, d: jax.jvp(lambda p: loss(p, forward), (p,), (d,)))(
        variables["params"], direction
    )
    along = jax.tree.map(lambda a, b: jnp.sum(a * b), gradient, direction)
    np.testing.assert_allclose(tangent, sum(jax.tree.leaves(along)), rtol=1e-7)


@pytest.mark.slow
def test_hessian_vector_products_through_the_model(x64):
    """They are those of unrolling; finite differences would cross the kinks of leaky ReLUs."""
    config, variables, image = in_double(differentiation="jvp", temperature=0.2)
    direction = random_like(variables["params"])

    def product(**changes):
        model = LDEQ(dataclasses.replace(config, **changes))

        def gradient(params):
            loss = lambda p: jnp.sum(model.apply({"params": p}, image).landmarks ** 2)  # noqa: E731
            return jax.grad(loss)(params)

        at = variables["params"]
        return jax.jit(lambda p, d: jax.jvp(gradient, (p,), (d,))[1])(at, direction)

    plain = dataclasses.replace(config.forward, method="picard", max_steps=30, tol=0.0)
    expected = product(gradient="unrolled", forward=plain)
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7 * scale),
        product(),
        expected,
    )


@pytest.mark.slow
def test_the_model_passes_the_options_of_the_phantom_gradient_on():
    config = dataclasses.replace(SMALL, image_size=32, depth=1, gradient="phantom")
    variables = jax.jit(LDEQ(config).init)(jax.random.key(0), images(1, 32))

    def gradient(**changes):
        model = LDEQ(dataclasses.replace(config, **changes))
        loss = lambda p: jnp.sum(model.apply({"params": p}, images(1, 32)).landmarks ** 2)  # noqa: E731
        leaves = jax.tree.leaves(jax.jit(jax.grad(loss))(variables["params"])["map"])
        return np.concatenate([np.ravel(leaf) for leaf in leaves])

    default = gradient()
    one_step = gradient(phantom_steps=1, phantom_mixing=1.0)
    np.testing.assert_allclose(one_step, gradient(gradient="one_step"), rtol=1e-4, atol=1e-7)
    assert np.abs(one_step - default).max() > 1e-3 * np.abs(default).max()
    with pytest.raises(ValueError, match="phantom_steps"):
        gradient(phantom_steps=0)
    with pytest.raises(ValueError, match="phantom_mixing"):
        gradient(phantom_mixing=0.0)
