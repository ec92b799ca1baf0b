"""The examples do what they say; two of them with the equilibrium part of the package alone."""

import ast
import importlib.util
import pathlib

import cv2
import jax
import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
PROGRAMS = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def usual_rank_promotion():
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("name", ["denoise", "moving_scene"])
def test_an_example_imports_deq_alone(name):
    tree = ast.parse((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))
    modules = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    assert "ldeq_jax.deq" in modules
    assert all(not m.startswith("ldeq_jax") or m == "ldeq_jax.deq" for m in modules)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        load(name).main(["--help"])
    assert ended.value.code == 0 and f"python examples/{name}.py" in capsys.readouterr().out


def test_recurrence_beats_frames_alone(tmp_path, capsys):
    output = tmp_path / "flow.png"
    arguments = ["--frames=3", "--size=32", "--budget=2", f"--output={output}"]
    load("moving_scene").main(arguments)
    assert "warm start and penalty" in capsys.readouterr().out
    assert cv2.imread(str(output)).shape == (480, 720, 3)
    measured = load("moving_scene").run(num_frames=12, size=48, budget=10)
    error, flicker = measured["warm start and penalty"]
    alone, alone_flicker = measured["each frame alone"]
    assert error < 0.9 * alone and flicker < 0.6 * alone_flicker
    assert error < measured["each frame alone, 200 iterations"][0]


def test_the_flow_of_a_shifted_picture_is_its_shift():
    scene = load("moving_scene")
    scene.NOISE = 0.0
    frames, flows = scene.render(np.random.default_rng(0), 1, 64)
    solver = scene.SolverConfig(method="picard", max_steps=400, tol=1e-4)
    found = scene.solve(frames[:, None], 400, 0.0, False, solver)[0, 0]
    background = np.isclose(flows[0], scene.VELOCITIES[0]).all(axis=-1)
    np.testing.assert_allclose(
        np.median(np.asarray(found)[background], axis=0), scene.VELOCITIES[0], atol=0.1
    )


@pytest.mark.slow
def test_the_implicit_gradient_trains_a_denoiser(capsys):
    errors = load("denoise").run(num_steps=300, size=32)
    capsys.readouterr()
    for before, after in errors.values():
        assert after < 0.6 * before
    one, _, implicit = (after for _, after in errors.values())
    assert implicit < 0.9 * one


@pytest.mark.slow
def test_a_few_steps_of_training_help():
    denoise = load("denoise")
    kind = "equilibrium, implicit gradient"
    clean = denoise.draw(np.random.default_rng(1), 16, 16)
    noise = np.random.default_rng(2).standard_normal(clean.shape, np.float32)
    noisy = clean + denoise.NOISE * noise
    apply = jax.jit(lambda params: denoise.denoise(params, noisy, kind)[0])
    before, after = (
        float(np.mean((apply(params) - clean) ** 2)) for params in denoise.train(kind, 25, 16)
    )
    assert after < 0.7 * before
