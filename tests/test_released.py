"""Released checkpoints: every tensor and setting has its place here, and goes back to it."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from golden_weights import STILL_ARGS, VIDEO_ARGS, released_weights, stored_sizes

from ldeq_jax.deq.solver import SolverConfig
from ldeq_jax.interop.args import read_settings
from ldeq_jax.interop.released import from_released, lost_settings, to_released
from ldeq_jax.model.ldeq import LDEQ, ModelConfig

META = json.loads(str(np.load(Path(__file__).parent / "goldens" / "early_stop.npz")["meta"]))
HEAD = "deq_layer.cell.head.conv.weight"
STILL = {"beta": 0.3, "solver": "anderson", "max_iters": 5, "rel_diff_target": 1e-4}
VIDEO = {"beta": 0.4, "solver": "fpi", "max_iters": 5, "rel_diff_target": 5e-4}


@pytest.fixture
def weights():
    return {
        name: value.astype(np.float32) if value.dtype == np.float64 else value
        for name, value in released_weights(META).items()
    }


def assert_same(left, right):
    """The same tensors in the same order, bit for bit."""
    assert list(left) == list(right)
    for name, value in left.items():
        assert value.dtype == right[name].dtype and value.flags.c_contiguous
        np.testing.assert_array_equal(value, right[name])


def test_there_and_back_changes_no_bit(weights):
    model, variables = from_released(weights, STILL)
    back, args = to_released(model, variables)
    assert_same(back, weights)
    again, same = from_released(back, args)
    assert again.config == model.config
    assert_same(to_released(again, same)[0], weights)


def test_double_precision_is_kept_where_there_is_any():
    weights = released_weights(META)
    assert from_released(weights, STILL)[0].config.dtype == "float32"
    with jax.enable_x64(True):
        model, variables = from_released(weights, STILL)
        assert model.config.dtype == "float64"
        assert_same(to_released(model, variables)[0], weights)


def test_the_released_size():
    """All names of the released model, all of its 21,825,146 parameters, and every bit of them."""
    model = LDEQ(ModelConfig())
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 256, 256, 3), np.float32)
    )
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)
    weights, args = to_released(model, variables, batches_seen=28125)
    assert list(weights) == list(META["names"])
    assert {name: value.ndim for name, value in weights.items()} == {
        name: len(shape) for name, shape in META["names"].items()
    }
    learnt = [v.size for n, v in weights.items() if v.dtype == np.float32 and "running" not in n]
    assert sum(learnt) == 21_825_146
    assert {int(v) for n, v in weights.items() if n.endswith("num_batches_tracked")} == {28125}
    _, back = from_released(weights, args)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


@pytest.mark.parametrize(
    ("args", "forward", "temperature"),
    [
        (STILL, SolverConfig(method="anderson", max_steps=5, tol=1e-4), 0.3),
        (VIDEO, SolverConfig(method="picard", max_steps=5, tol=5e-4, best_iterate=False), 0.4),
        (
            VIDEO | {"take_one_less_inference_step": True, "max_iters": 7},
            SolverConfig(max_steps=7, tol=5e-4, best_iterate=False, final_evaluation=False),
            0.4,
        ),
        (
            STILL | {"anderson_m": 3, "anderson_beta": 0.8, "anderson_lam": 1e-3},
            SolverConfig(method="anderson", tol=1e-4, history_size=3, mixing=0.8),
            0.3,
        ),
        (
            {"beta": 1, "solver": "broyden", "max_iters": 9, "stop_mode": "abs"}
            | {"abs_diff_target": 0.01, "rel_diff_target": 1e-4, "lr": 1e-4, "stem": None},
            SolverConfig(method="broyden", max_steps=9, tol=0.01, stop="abs"),
            1.0,
        ),
    ],
)
def test_the_solver_is_that_of_the_args(weights, args, forward, temperature):
    config = from_released(weights, args)[0].config
    ridge = args.get("anderson_lam", 1e-4)
    forward = dataclasses.replace(
        forward, divergence_ratio=np.inf, ridge=ridge, ridge_scale="absolute"
    )
    assert (config.forward, config.temperature) == (forward, temperature)
    assert config.backward == dataclasses.replace(forward, final_evaluation=False)
    assert (config.gradient, config.stem_norm, config.readout_offset) == ("implicit", "batch", 0)


def test_sizes_are_those_of_the_tensors(weights):
    sizes = {name: META[name] for name in ("num_landmarks", "injection_width", "base_width")}
    sizes |= {"width_increment": META["width_increment"]}
    config = from_released(weights, STILL | {"heatmap_size": 16, "gn_groups": 4})[0].config
    assert sizes == {name: getattr(config, name) for name in sizes}
    assert (config.image_size, config.groups, config.depth) == (64, 4, 4)
    assert config.residual_kernel == 5
    found = read_settings(weights, STILL | {"base_width": 16})
    names = "cell_softargmax_beta", "cell_base_width", "n_keypoints"
    assert [found[name].origin for name in names] == ["args", "args", "tensors"]
    assert found["im_size"] == (256, "assumed")


@pytest.mark.parametrize(
    ("stored", "short"), [(STILL_ARGS, STILL), (VIDEO_ARGS, VIDEO)], ids=["still", "video"]
)
def test_the_args_of_the_released_files_are_read_and_written_back(weights, stored, short):
    stored = stored | stored_sizes(META)
    model, variables = from_released(weights, stored)
    same, _ = from_released(weights, short | {"image_size": 64})
    assert model.config == same.config
    _, args = to_released(model, variables)
    assert {name: stored[name] for name in args} == args
    ignored = ("phantom", "experiment", "dataloading", "n_epochs", "init_lr", "load_weights")
    left = {name for name in stored.keys() - args.keys() if not name.startswith(ignored)}
    assert left == {
        "explicit_depth",
        "cell_use_bn_for_explicit",
        "abs_diff_target",
        "verbose_solver",
        "AMP",
    }
    found = read_settings(weights, stored)
    assert {setting.origin for setting in found.values()} == {"args"}


def test_the_jacobian_free_gradient_goes_there_and_back(weights):
    model, variables = from_released(weights, STILL_ARGS | stored_sizes(META) | {"JFB": True})
    assert model.config.gradient == "one_step"
    assert to_released(model, variables)[1]["JFB"] is True


@pytest.mark.parametrize("depth", [1, 3])
def test_other_sizes_of_the_same_naming(depth):
    config = ModelConfig(
        num_landmarks=5,
        image_size=32,
        injection_width=8,
        base_width=8,
        width_increment=4,
        groups=2,
        depth=depth,
        residual_kernel=3,
        stem_norm="group",
        gradient="implicit",
    )
    shapes = jax.eval_shape(LDEQ(config).init, jax.random.key(0), np.zeros((1, 32, 32, 3)))
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes)
    weights, args = to_released(LDEQ(config), variables)
    back = from_released(weights, args)[0].config
    assert (back.depth, back.residual_kernel, back.stem_norm) == (depth, 3, "group")
    told = lost_settings(LDEQ(config), weights, args)
    assert told[:3] == [
        f"depth is {depth} here, 4 there",
        "residual_kernel is 3 here, 5 there",
        "stem_norm is group here, batch there",
    ]


def test_every_tensor_that_does_not_fit_is_named(weights):
    weights["deq_layer.cell.beta"] = np.ones(1, np.float32)
    del weights["tail.1.norm.bias"], weights["tail.0.norm.num_batches_tracked"]
    weights["tail.1.norm.num_batches_tracked"] = np.array(3)
    weights["tail.0.conv.bias"] = np.zeros(5, np.float32)
    weights[HEAD] = weights[HEAD].astype(np.int32)
    weights["deq_layer.cell.hourglass.same2.conv.bias"] *= np.nan
    with pytest.raises(ValueError) as error:
        from_released(weights, STILL)
    assert str(error.value).splitlines() == [
        "no released model of these sizes:",
        "  deq_layer.cell.beta is not known",
        "  tail.0.conv.bias is (5,), not (4,)",
        "  tail.0.norm.num_batches_tracked is missing",
        "  tail.1.norm.bias is missing",
        "  deq_layer.cell.hourglass.same2.conv.bias is not finite",
        f"  {HEAD} is of type int32",
        "  *.norm.num_batches_tracked differ: 0, 3",
    ]


def test_any_tensor_may_be_the_missing_one(weights):
    for name in weights:
        fewer = {other: value for other, value in weights.items() if other != name}
        with pytest.raises(ValueError, match=f"{name} is missing"):
            from_released(fewer, STILL)


def test_sizes_of_the_args_are_held_against_the_tensors(weights):
    with pytest.raises(ValueError, match=rf"{HEAD} is \(10, 16, 1, 1\), not \(9, 16, 1, 1\)"):
        from_released(weights, STILL | {"num_landmarks": 9})
    weights["tail.3.conv.weight"] = weights["tail.3.conv.weight"][..., 0]
    with pytest.raises(ValueError, match=r"tail.3.conv.weight is \(16, 8, 3\), no kernel"):
        from_released(weights, STILL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"solver": None, "f_solver": "fpi"},
            "not say solver; they hold .*f_solver='fpi'.*--set",
        ),
        ({"beta": None, "max_iters": None}, "do not say cell_softargmax_beta, max_iters; they"),
        ({"cell_softargmax_beta": 0.4}, "cell_softargmax_beta=0.4 and beta=0.3"),
        ({"cell_norm": "sigmoid"}, "cell_norm='sigmoid', .* only that of cell_norm='softargmax'"),
        ({"z0_mode": "noise"}, "z0_mode='noise'"),
        ({"model_mode": "explicit", "explicit_depth": 3}, "model_mode='explicit'"),
        ({"cell_extra_latent_width": 16}, "cell_extra_latent_width=16"),
        ({"cell_learn_softargmax_beta": True}, "cell_learn_softargmax_beta=True"),
        ({"stochastic_max_iters": True}, "stochastic_max_iters=True"),
        ({"downres_factor": 8}, "downres_factor=8"),
        ({"input_channels": 1}, "input_channels=1"),
        ({"z_width": 12}, "z_width=12, .* each of the 10 landmarks"),
        ({"im_size": 64, "heatmap_size": 64}, "im_size=64 and heatmap_size=64, .* a quarter"),
        ({"stop_mode": "abs"}, "do not say abs_diff_target"),
        ({"stop_mode": "never"}, "stop_mode='never'; known: rel, abs"),
        ({"solver": "newton"}, "solver='newton'; known: fpi, anderson, broyden"),
        ({"max_iters": 5.5}, "max_iters=5.5, which is no int"),
        ({"gn_groups": "8"}, "cell_gn_groups='8', which is no int"),
        ({"take_one_less_inference_step": 1}, "take_one_less_inference_step=1, which is no bool"),
        ({"max_iters": 0}, "max_steps"),
        ({"gn_groups": 3}, "base_width 16 is not divisible by 3 groups"),
    ],
)
def test_args_that_cannot_be_followed(weights, changes, message):
    with pytest.raises(ValueError, match=message):
        from_released(weights, STILL | changes)


def test_a_learnt_temperature_goes_back_as_a_number(weights):
    model, variables = from_released(weights, STILL)
    learning = LDEQ(dataclasses.replace(model.config, learn_temperature=True))
    variables["params"]["map"]["log_temperature"] = np.log(np.float32(0.7))
    back, args = to_released(learning, variables)
    assert_same(back, weights)
    assert args["cell_softargmax_beta"] == pytest.approx(0.7)


def test_settings_that_the_args_cannot_say_are_listed(weights):
    model, variables = from_released(weights, STILL)
    assert lost_settings(model, *to_released(model, variables)) == []
    forward = dataclasses.replace(
        model.config.forward, method="picard", divergence_ratio=10.0, batch_mean_stop=True
    )
    changed = dataclasses.replace(
        model.config, forward=forward, gradient="phantom", readout_offset=0.375
    )
    assert lost_settings(LDEQ(changed), *to_released(LDEQ(changed), variables)) == [
        "readout_offset is 0.375 here, 0.0 there",
        "forward.best_iterate is True here, False there",
        "forward.divergence_ratio is 10.0 here, inf there",
        "gradient is phantom here, implicit there",
    ]


def test_variables_of_another_model_are_refused(weights):
    model, variables = from_released(weights, STILL)
    wider = LDEQ(dataclasses.replace(model.config, base_width=24))
    with pytest.raises(ValueError, match="not those of the model"):
        to_released(wider, variables)
