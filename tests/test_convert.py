"""Released checkpoint files: read without running anything in them, converted, and written back."""

import argparse
import json
import os
import pathlib
import pickle
import sys

import commands
import cv2
import jax
import numpy as np
import pytest
from golden_weights import (
    STILL_ARGS,
    VIDEO_ARGS,
    released_args,
    released_weights,
    stored_sizes,
)
from test_evaluate import call, data_dir  # noqa: F401  (a fixture)

from ldeq_jax.cli import convert
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import crop_around
from ldeq_jax.inference.videos import VideoPredictor
from ldeq_jax.interop.released import from_released, to_released
from ldeq_jax.model.ldeq import LDEQ, normalise_image
from ldeq_jax.model.rwr import RwRConfig

torch = pytest.importorskip("torch", reason="needs the extra convert", exc_type=ImportError)
from benchmarks.torch_reference import Landmarks  # noqa: E402
from ldeq_jax.interop import torch_files  # noqa: E402
from ldeq_jax.weights import load_model  # noqa: E402

ROOT = pathlib.Path(__file__).parents[1]
STILL = {"beta": 0.3, "solver": "anderson", "max_iters": 5, "rel_diff_target": 1e-4}
TEN = {
    "name": "ten",
    "num_landmarks": 10,
    "flip_permutation": [1, 0, *range(2, 10)],
    "eye_corners": [0, 1],
    "contours": [],
}


class Golden:
    """A golden file, and checkpoint files of the weights that it was computed with."""

    def __init__(self, name):
        self.data = np.load(ROOT / "tests" / "goldens" / f"{name}.npz")
        self.meta = json.loads(str(self.data["meta"]))
        self.weights = released_weights(self.meta)
        self.image = np.asarray(self.data["input"], np.float64).transpose(0, 2, 3, 1)

    def save(self, path, case, dtype=np.float64):
        args = released_args(self.meta, case) | {"lr": 1e-4, "crops": ["a", None, (1, 2)]}
        return save(path, {k: v.astype(dtype) for k, v in self.weights.items()}, args)


def save(path, weights, args):
    tensors = {name: torch.tensor(value) for name, value in weights.items()}
    for name in tensors:
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(17)
    torch.save({"args": argparse.Namespace(**args), "state_dict": tensors}, path)
    return path


@pytest.fixture(scope="module")
def goldens():
    return {name: Golden(name) for name in ("early_stop", "converged")}


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "ten.json"
    path.write_text(json.dumps(TEN))
    return path


@pytest.fixture
def file(tmp_path, goldens):
    return goldens["early_stop"].save(tmp_path / "final.pth.tar", "anderson", np.float32)


def complaint(*arguments):
    return commands.complaint("convert", *arguments)


def landmarks(folder, image):
    """What a converted model, read as any other, says of an image."""
    config, variables, _ = load_model(folder)
    return np.asarray(jax.jit(LDEQ(config.model).apply)(variables, image).landmarks)


@pytest.mark.parametrize(
    ("name", "case"), [("early_stop", "anderson_damped"), ("converged", "fpi")]
)
def test_a_file_through_the_command_gives_its_numbers(goldens, schema, tmp_path, name, case):
    golden = goldens[name]
    file = golden.save(tmp_path / "final.pth.tar", case)
    with jax.enable_x64(True):
        convert.main([str(file), f"--output={tmp_path / 'model'}", f"--schema={schema}"])
        found = landmarks(tmp_path / "model", golden.image)
        np.testing.assert_allclose(found, golden.data[f"{case}/landmarks"], atol=1e-6)
        convert.main([str(tmp_path / "model"), f"--output={tmp_path / 'back.pth.tar'}"])
    ours, theirs = (torch_files.read_released(tmp_path / f)[0] for f in ("back.pth.tar", file))
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        assert ours[key].dtype == value.dtype
        np.testing.assert_array_equal(ours[key], value)


@pytest.mark.parametrize("stored", [STILL_ARGS, VIDEO_ARGS], ids=["still", "video"])
def test_a_file_with_all_the_args_of_a_released_one(goldens, schema, tmp_path, capsys, stored):
    """As its authors saved it, through the command, with nothing set by hand."""
    golden = goldens["early_stop"]
    args = stored | stored_sizes(golden.meta)
    file = save(tmp_path / "final.pth.tar", golden.weights, args)
    model, back = tmp_path / "model", tmp_path / "back.pth.tar"
    with jax.enable_x64(True):
        convert.main([str(file), f"--output={model}", f"--schema={schema}"])
        told = capsys.readouterr().out
        config, variables, step = load_model(model)
        short = {name: stored[name] for name in STILL if name != "beta"}
        short |= {"beta": stored["cell_softargmax_beta"], "image_size": 64}
        expected, same = from_released(golden.weights, short)  # whose numbers the goldens check
        convert.main([str(model), f"--output={back}", f"--args_from={file}"])
    assert (config.model, step) == (expected.config, 17)
    jax.tree.map(np.testing.assert_array_equal, variables, same)
    assert (config.data.name, config.data.crop, config.rwr.budget) == ("wflw", "box", 1)
    origins = {line.split()[-1] for line in told.splitlines() if line.startswith("  ")}
    assert origins == {"args"}
    assert "args that say nothing of the model: AMP, abs_diff_target, cell_use_bn" in told
    assert torch_files.read_released(back)[1] == args


def test_a_model_of_another_kind_is_refused_in_a_line(goldens, schema, tmp_path, capsys):
    golden = goldens["early_stop"]
    args = STILL_ARGS | stored_sizes(golden.meta) | {"cell_learn_softargmax_beta": True}
    file = save(tmp_path / "final.pth.tar", golden.weights, args | {"AMP": True})
    options = [str(file), f"--output={tmp_path / 'model'}", f"--schema={schema}"]
    told = complaint(*options)
    assert "cell_learn_softargmax_beta=True" in told and "\n" not in told
    assert not (tmp_path / "model").exists()
    convert.main([*options, "--set", told.partition("--set ")[2]])
    assert "mixed precision" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["anderson", "broyden"])
def test_single_precision_gives_them_to_a_thousandth_of_a_pixel(goldens, case):
    golden = goldens["converged"]
    model, variables = from_released(golden.weights, released_args(golden.meta, case))
    image = golden.image.astype(np.float32)
    found = np.asarray(jax.jit(model.apply)(variables, image).landmarks)
    assert np.abs(found - golden.data[f"{case}/landmarks"]).max() * model.config.image_size < 1e-3


@pytest.mark.slow
def test_an_ill_conditioned_case_is_as_near_as_its_weights_in_single_precision(goldens):
    """Its map expands: in float64, merely rounding the weights moves landmarks by half a pixel."""
    golden = goldens["early_stop"]
    args, expected = released_args(golden.meta, "fpi"), golden.data["fpi/landmarks"]
    rounded = {k: np.float64(np.float32(v)) for k, v in golden.weights.items()}
    rounded = {k: v if v.ndim else np.array(0) for k, v in rounded.items()}
    off = []
    for x64, weights in ((True, rounded), (False, golden.weights)):
        with jax.enable_x64(x64):
            model, variables = from_released(weights, args)
            image = golden.image.astype(model.config.dtype)
            found = np.asarray(jax.jit(model.apply)(variables, image).landmarks)
        off.append(np.abs(found - expected).max() * model.config.image_size)
    by_rounding, in_float32 = off
    assert 1e-2 < by_rounding and in_float32 < 4 * by_rounding


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faces-68-tiny", "faces-68"])
def test_trained_weights_in_pytorch_find_the_same_landmarks(name):
    """On real faces, in single precision, the layers as plain PyTorch modules agree."""
    config, variables, _ = load_model(name)
    weights, args = to_released(LDEQ(config.model), variables)
    theirs = Landmarks(config.model).eval()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=True)
    boxes = json.loads((ROOT / "examples" / "boxes.json").read_text())
    size, crops = config.model.image_size, []
    for file, box in boxes.items():
        picture = cv2.cvtColor(cv2.imread(str(ROOT / "examples" / file)), cv2.COLOR_BGR2RGB)
        crop = crop_around(
            config.data.crop,
            config.data.crop_scale,
            config.model.image_size,
            shape=picture.shape,
            box=np.asarray(box, float).reshape(4),
        )
        crops.append(geometry.warp(picture, crop, size))
    image = np.asarray(normalise_image(np.stack(crops)))
    ours, variables = from_released(weights, args | {"rel_diff_target": 0.0})
    with torch.no_grad():
        expected = theirs(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()), evaluations=6)
    found = np.asarray(jax.jit(ours.apply)(variables, image).landmarks)
    assert np.ptp(found) > 0.5  # a face, not a point
    assert np.abs(found - expected.numpy()).max() * size < 1e-3


def test_the_reference_is_the_released_model(goldens):
    """Its names and numbers, so that agreement with it means something."""
    golden = goldens["early_stop"]
    with jax.enable_x64(True):
        config = from_released(golden.weights, STILL)[0].config
    model = Landmarks(config).double().eval()
    model.load_state_dict({k: torch.tensor(v) for k, v in golden.weights.items()}, strict=True)
    with torch.no_grad():
        found = model(torch.tensor(np.asarray(golden.data["input"], np.float64)), evaluations=6)
    np.testing.assert_allclose(found, golden.data["fpi/landmarks"], atol=1e-6)


def test_evaluate_takes_a_converted_model(goldens, tmp_path, data_dir, capsys):  # noqa: F811
    meta = goldens["early_stop"].meta | {"num_landmarks": 68}
    head, entry = "deq_layer.cell.head.conv", "deq_layer.cell.tail.conv.weight"
    sizes = {f"{head}.weight": [68, 16, 1, 1], f"{head}.bias": [68], entry: [16, 84, 1, 1]}
    meta["names"] = meta["names"] | sizes
    weights = {k: np.float32(v) for k, v in released_weights(meta).items()}
    file = save(tmp_path / "final.pth.tar", weights, released_args(meta, "anderson"))
    model, output = tmp_path / "model", tmp_path / "evaluated"
    options = ["--dataset=toy_faces", "--crop=landmarks", "--batch_mean_stop"]
    convert.main([str(file), f"--output={model}", *options])
    told = capsys.readouterr().out
    assert "111 tensors" in told and "17 batches" in told and "non-commercial" in told
    assert f"wrote {model}" in told
    call("evaluate", f"--checkpoint={model}", f"--data_dir={data_dir}", f"--output={output}")
    record = json.loads((output / "metrics.json").read_text())
    assert record["solver"]["batch_mean_stop"] and record["solver"]["method"] == "anderson"
    assert (record["num_faces"], record["schema"], record["step"]) == (7, "ibug_68", 17)
    # On video it does what the released code does, unless told otherwise.
    released = RwRConfig(budget=1, first_budget=1, penalty=0.0, align="none")
    assert VideoPredictor.load(model).recurrence == released


def test_missing_args_are_named_and_can_be_given(goldens, schema, tmp_path, capsys):
    args = STILL | {"solver": None, "f_solver": "fpi", "image_size": 64}
    file = save(tmp_path / "final.pth.tar", goldens["early_stop"].weights, args)
    options = [str(file), f"--output={tmp_path / 'model'}", f"--schema={schema}"]
    assert "do not say solver; they hold" in complaint(*options)
    assert not (tmp_path / "model").exists()
    convert.main([*options, "--set=solver=fpi", "--set", "max_iters=3"])
    told = capsys.readouterr().out
    assert "solver                        fpi        --set" in told
    assert "n_keypoints                   10         tensors" in told
    assert "args that say nothing of the model: f_solver\n" in told
    forward = load_model(tmp_path / "model")[0].model.forward
    assert (forward.method, forward.max_steps) == ("picard", 3)


def test_the_args_of_a_file_are_kept_but_for_those_of_the_model(file, schema, tmp_path):
    model, back = tmp_path / "model", tmp_path / "back.pth.tar"
    convert.main([str(file), f"--output={model}", f"--schema={schema}", "--set=beta=0.5"])
    convert.main([str(model), f"--output={back}", f"--args_from={file}"])
    args = torch_files.read_released(back)[1]
    assert args["crops"] == ["a", None, (1, 2)] and args["lr"] == 1e-4
    assert (
        args["cell_softargmax_beta"] == 0.5 and "beta" not in args and args["solver"] == "anderson"
    )


# Files that are not what they should be ------------------------------------------------------


class Malicious:
    """Runs a command wherever it is unpickled freely."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["args", "state_dict", "beside"])
def test_a_malicious_file_runs_nothing(file, tmp_path, where, zipped):
    mark, bad = tmp_path / "run", tmp_path / "bad.pth.tar"
    content = {"args": argparse.Namespace(**STILL), "state_dict": {}}
    content["beside"] = 1
    content[where] = Malicious(mark)
    torch.save(content, bad, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="bad.pth.tar is not read: .*damaged, or holds more"):
        torch_files.read_released(bad)
    assert "not read" in complaint(bad, f"--output={tmp_path / 'model'}")
    assert not mark.exists() and not (tmp_path / "model").exists()
    if zipped:
        assert "posix.mkdir: such a file could run any code" in complaint(bad, "--output=model")
    torch.load(bad, weights_only=False)
    assert mark.exists(), "loaded freely, it does its deed"


def test_classes_other_than_the_namespace_are_refused(tmp_path):
    content = {"args": argparse.Namespace(where=pathlib.PurePosixPath("a")), "state_dict": {}}
    torch.save(content, tmp_path / "odd.pth.tar")
    with pytest.raises(ValueError, match="It asks for pathlib.PurePosixPath"):
        torch_files.read_released(tmp_path / "odd.pth.tar")


def test_damaged_files_are_reported_in_one_line(file, tmp_path):
    whole, bad = file.read_bytes(), tmp_path / "bad.pth.tar"
    pieces = [b"", b"not a checkpoint", whole[: len(whole) // 2], whole[:-100], pickle.dumps({})]
    for data in pieces:
        bad.write_bytes(data)
        told = complaint(bad, f"--output={tmp_path / 'model'}")
        assert str(bad) in told and "\n" not in told and "weights_only" not in told
    assert not (tmp_path / "model").exists()
    assert "no file" in complaint(tmp_path / "none.pth.tar", f"--output={tmp_path / 'model'}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "it holds none"),
        (
            {"model": {}, "epoch": 3},
            "a dict of args and state_dict; it holds a dict of model, epoch",
        ),
        ({"args": 3, "state_dict": {}}, "it holds a dict of args, state_dict"),
        ({"args": {}, "state_dict": {"a": 3, "b": "c"}}, "more than tensors: a, b"),
        ({"args": {}, "state_dict": {}}, "do not say cell_softargmax_beta, solver, max_iters"),
        ({"args": STILL, "state_dict": {}}, "tensor deq_layer.cell.tail.conv.weight is missing"),
    ],
)
def test_files_with_something_else_in_them(tmp_path, content, message):
    torch.save(content, tmp_path / "odd.pth.tar")
    assert message in complaint(tmp_path / "odd.pth.tar", f"--output={tmp_path / 'model'}")


def test_mistakes_on_the_command_line(file, schema, tmp_path):
    taken, model = tmp_path / "taken", tmp_path / "model"
    taken.mkdir()
    (taken / "precious").write_text("x")
    assert "exists already: choose another" in complaint(
        file, f"--output={taken}", f"--schema={schema}"
    )
    assert "exists already: choose another" in complaint(taken, f"--output={file}")
    assert (taken / "precious").read_text() == "x"
    assert "10 landmarks; say what they mean" in complaint(file, f"--output={model}")
    assert "--set needs NAME=VALUE" in complaint(file, f"--output={model}", "--set=solver")
    assert "--args_from is of no use" in complaint(file, f"--output={model}", f"--args_from={file}")
    assert "--crop is of no use" in complaint(taken, f"--output={model}", "--crop=none")
    assert "--crop_scale is of no use" in complaint(taken, f"--output={model}", "--crop_scale=1.3")
    assert "no model in" in complaint(taken, f"--output={tmp_path / 'back.pth.tar'}")
    assert not model.exists()


def test_the_home_directory_is_written_as_a_tilde(file, schema, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    convert.main([f"~/{file.name}", "--output=~/model", f"--schema=~/{schema.name}"])
    convert.main(["~/model", "--output=~/back.pth.tar", f"--args_from=~/{file.name}"])
    assert (tmp_path / "model").is_dir() and (tmp_path / "back.pth.tar").is_file()
    assert not (tmp_path / "~").exists()


def test_half_precision_is_read_exactly(tmp_path):
    tensor = torch.tensor([1.5, -0.007], dtype=torch.bfloat16)
    torch.save({"args": STILL, "state_dict": {"a": tensor}}, tmp_path / "half.pth.tar")
    found = torch_files.read_released(tmp_path / "half.pth.tar")[0]["a"]
    assert found.dtype == np.float32 and found.tolist() == tensor.tolist()


def test_a_write_that_fails_leaves_nothing(file, tmp_path, monkeypatch):
    def full(content, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        torch_files.write_released(tmp_path / "back.pth.tar", {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["final.pth.tar"]


def test_without_torch_the_message_says_what_to_install(file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    told = complaint(file, f"--output={tmp_path / 'model'}")
    assert "pip install 'ldeq_jax[convert]'" in told
