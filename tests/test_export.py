"""Exported programs say what the model says, frame after frame, without this package."""

import csv
import dataclasses
import json
import pathlib
import subprocess
import sys

import cv2
import jax
import jax.export
import numpy as np
import pytest
from commands import complaint, ldeq
from test_examples import load
from test_inference import MODEL, noise

from ldeq_jax.config import Config
from ldeq_jax.data.config import DataConfig
from ldeq_jax.face import schema
from ldeq_jax.face.confidence import ConfidenceConfig, with_confidence
from ldeq_jax.face.crops import crop_around
from ldeq_jax.face.geometry import inverse, transform_points, warp
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.inference.follower import Follower
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.inference.videos import VideoPredictor, compiled_programs
from ldeq_jax.interop.export import PLATFORMS, export_onnx, export_stablehlo
from ldeq_jax.media.video import VideoReader
from ldeq_jax.model import rwr
from ldeq_jax.model.ldeq import variable_shapes
from ldeq_jax.model.rwr import RwRConfig
from ldeq_jax.weights import export_model, load_model

ROOT = pathlib.Path(__file__).parents[1]
CLIP = ROOT / "examples" / "wflw_v" / "videos" / "intel_head_pose_male.mp4"
SIZE, K = MODEL.image_size, MODEL.num_landmarks
FIVE = schema.LandmarkSchema(
    name="five",
    num_landmarks=K,
    flip_permutation=(1, 0, 2, 4, 3),
    eye_corners=(0, 1),
    contours=(schema.Contour((3, 4)),),
)
CONFIG = Config(
    model=MODEL,
    data=DataConfig(name="none", crop="extent", crop_scale=1.3, schema=FIVE),
    rwr=RwRConfig(budget=1, hold_seconds=(0.08, 0.08, 0.04, 0.02, 0.02)),
    confidence=ConfidenceConfig(errors=(0.5, 0.6, 0.7, 0.8, 0.9), power=1.2),
)
LAWS = {
    "as shipped": {},
    "one evaluation": {"rwr.budget": 0},
    "no final evaluation": {
        "rwr.budget": 3,
        "rwr.final_evaluation": False,
        "model.forward.final_evaluation": False,
        "model.forward.tol": 0.3,
    },
    "cold": {"rwr.warm_start": False, "rwr.budget": 2, "model.forward.best_iterate": False},
    "mean": {"rwr.fusion": "arithmetic", "rwr.align": "crop", "rwr.weighting": "spread"},
    "anderson": {
        "rwr.align": "none",
        "rwr.penalty": (0.3,) * K,
        "model.forward.method": "anderson",
        "model.forward.history_size": 3,
        "model.learn_temperature": True,
        "model.readout_offset": 0.375,
    },
    "broyden": {
        "rwr.follow": 0.7,
        "model.forward.method": "broyden",
        "model.stem_norm": "batch",
        "model.residual_kernel": 5,
    },
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Writes a model with some changes of its config; gives its folder, config and variables."""

    def write(changes):
        config, rng = CONFIG.with_values(changes), np.random.default_rng(3)
        shapes = variable_shapes(config.model)
        variables = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(s.dtype), shapes)
        variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
        folder = tmp_path_factory.mktemp("model")
        export_model(folder, 3, variables, config, {"nme": 0.05})
        return str(folder), config, variables

    return write


@pytest.fixture(scope="module")
def plain(written):
    return written({})


def crops_of_a_film(rows, frames):
    """Crops (T, B, H, W, 3) that change from frame to frame, and their matrices."""
    rng = np.random.default_rng(rows)
    scenes = np.stack([np.roll(noise(2 * SIZE, 2 * SIZE, 3), 5 * row, 0) for row in range(rows)])
    images = np.stack([scenes[:, t : t + SIZE, t : t + SIZE] for t in range(frames)])
    matrices = np.tile(np.float32([[1.5, 0, 9], [0, 1.5, 7], [0, 0, 1]]), (frames, rows, 1, 1))
    matrices[..., :2, 2] += rng.normal(0, 1, (frames, rows, 2)).cumsum(axis=0)
    return images, matrices


class Graphs:
    """The two ONNX graphs, used as the manifest says."""

    def __init__(self, folder):
        onnxruntime = pytest.importorskip("onnxruntime", reason="not installed: make onnx")
        self._sessions = {
            name: onnxruntime.InferenceSession(folder / f"{name}.onnx")
            for name in ("first", "next")
        }
        self._state = {}

    def step(self, image, frame_from_crop, seconds, follows, strength=1.0):
        """The results of a frame; all its rows follow the last one, or none does."""
        inputs, rows = {"image": image}, len(image)
        if follows:
            inputs |= self._state | {
                "frame_from_crop": frame_from_crop,
                "interval": np.full(rows, seconds, np.float32),
                "strength": np.full(rows, strength, np.float32),
            }
        session = self._sessions["next" if follows else "first"]
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(None, inputs), strict=True))
        self._state = {f"previous_{name}": found[name] for name in ("heatmaps", "motion")}
        self._state["previous_frame_from_crop"] = frame_from_crop
        return found


@pytest.mark.parametrize("law", LAWS)
def test_onnx_graphs_compute_what_the_model_does(law, written, tmp_path):
    onnx = pytest.importorskip("onnx", reason="not installed: make onnx")
    folder, config, variables = written(LAWS[law])
    export_onnx(folder, tmp_path)
    graphs = Graphs(tmp_path)
    for name in ("first", "next"):
        operators = {node.op_type for node in onnx.load(tmp_path / f"{name}.onnx").graph.node}
        assert not operators & {"Loop", "If", "Scan"}
    step, _ = compiled_programs(config.model)
    for rows in (1, 3):
        state = rwr.initial_state(config.model, rows)
        for t, (image, matrix) in enumerate(zip(*crops_of_a_film(rows, 5), strict=True)):
            follows, seconds = t not in (0, 3), 0.03 + 0.02 * t
            state = state if follows else rwr.initial_state(config.model, rows)
            interval = np.full(rows, seconds, np.float32)
            expected, state = step(variables, config.rwr, image, state, matrix, interval)
            found = graphs.step(image, matrix, seconds, follows)
            np.testing.assert_allclose(found["landmarks"], SIZE * expected.landmarks, atol=1e-3)
            np.testing.assert_allclose(found["spread"], SIZE * expected.spread, atol=1e-3)
            np.testing.assert_allclose(found["heatmaps"], state.heatmaps, atol=2e-4)
            np.testing.assert_allclose(found["motion"], state.motion, rtol=1e-3, atol=2e-3)


def test_strength_multiplies_the_time_constants(plain, tmp_path):
    pytest.importorskip("onnx", reason="not installed: make onnx")
    folder, config, variables = plain
    export_onnx(folder, tmp_path)
    graphs, (step, _) = Graphs(tmp_path), compiled_programs(config.model)
    images, matrices = crops_of_a_film(1, 4)
    for strength in (0.0, 2.5):
        hold = tuple(strength * seconds for seconds in config.rwr.hold_seconds)
        follow = strength * config.rwr.follow_seconds
        held = dataclasses.replace(config.rwr, hold_seconds=hold, follow_seconds=follow)
        state = rwr.initial_state(config.model, 1)
        for t in range(len(images)):
            interval = np.full(1, 0.05, np.float32)
            expected, state = step(variables, held, images[t], state, matrices[t], interval)
            found = graphs.step(images[t], matrices[t], 0.05, t > 0, strength)
            np.testing.assert_allclose(found["landmarks"], SIZE * expected.landmarks, atol=1e-3)
            np.testing.assert_allclose(found["motion"], state.motion, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("rows", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_stablehlo_programs_compute_what_the_model_does(rows, plain, stablehlo):
    folder, config, variables = plain
    still, following = (
        jax.export.deserialize(bytearray((stablehlo / f"{name}.stablehlo").read_bytes()))
        for name in ("still", "next")
    )
    assert still.platforms == following.platforms == PLATFORMS
    images, matrices = crops_of_a_film(rows, 4)
    alone = Predictor(config, variables)(images[0])
    found = still.call(images[0])
    np.testing.assert_allclose(found["landmarks"], SIZE * alone.landmarks, atol=1e-3)
    np.testing.assert_allclose(found["heatmaps"], alone.state, atol=1e-4)
    _check_confidence(found, config)
    step, _ = compiled_programs(config.model)
    state = rwr.initial_state(config.model, rows)
    carried, everyone = state._asdict(), np.ones(rows, bool)
    for t, (image, matrix) in enumerate(zip(images, matrices, strict=True)):
        interval = np.full(rows, 0.04, np.float32)
        if t == 2:
            state = rwr.initial_state(config.model, rows)
        expected, state = step(variables, config.rwr, image, state, matrix, interval)
        flags = everyone if t == 2 else ~everyone, everyone
        found, carried = following.call(image, carried, matrix, interval, *flags)
        assert found["ok"].all()
        np.testing.assert_allclose(found["landmarks"], SIZE * expected.landmarks, atol=1e-3)
        for name, value in carried.items():
            np.testing.assert_allclose(value, getattr(state, name), rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def stablehlo(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stablehlo")
    export_stablehlo(plain[0], folder)
    return folder


def _check_confidence(found, config):
    """Results in crop pixels have the confidence that `face.confidence` computes."""
    found = {name: np.asarray(array, np.float64) for name, array in found.items()}
    ok = np.ones(len(found["spread"]), bool)
    landmarks = Landmarks(points=found["landmarks"], spread=found["spread"], ok=ok)
    assessed = with_confidence(landmarks, config.confidence, FIVE.eye_corners)
    for name in ("confidence", "probability", "deviation"):
        np.testing.assert_allclose(found[name], getattr(assessed, name), rtol=1e-3, atol=1e-5)


def test_the_manifest_describes_the_files(plain, stablehlo):
    manifest = json.loads((stablehlo / "manifest.json").read_text("utf-8"))
    assert manifest["model"]["step"] == 3 and manifest["format"] == "stablehlo"
    assert schema.from_fields(manifest["schema"]) == FIVE
    named = {program["file"] for program in manifest["programs"].values()}
    named |= {manifest["detector"]["file"], "face_detector_LICENSE", "manifest.json"}
    assert {path.name for path in stablehlo.iterdir()} == named
    (image,) = manifest["programs"]["still"]["inputs"]
    assert image["shape"] == ["B", SIZE, SIZE, 3] and image["type"] == "uint8"
    names = [one["name"] for one in manifest["programs"]["still"]["outputs"]]
    assert {"landmarks", "spread", "confidence", "probability", "deviation"} <= set(names)


def test_what_is_missing_or_there_is_said(plain, tmp_path, monkeypatch):
    folder, out = plain[0], tmp_path / "out"
    for module, extra in (("onnx", "onnx"), ("flatbuffers", "stablehlo")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            patch.delitem(sys.modules, "ldeq_jax.interop.onnx_graph", raising=False)
            line = complaint("export", folder, f"--format={extra}", f"--output={out}")
        assert f"pip install 'ldeq_jax[{extra}]'" in line
    out.mkdir()
    (out / "mine").touch()
    line = complaint("export", folder, "--format=onnx", f"--output={out}")
    assert "exists already: choose another name" in line


def test_an_unknown_operation_is_refused_by_its_name():
    pytest.importorskip("onnx", reason="not installed: make onnx")
    from ldeq_jax.interop.onnx_graph import to_onnx

    with pytest.raises(ValueError, match="'erf', which .* --format=stablehlo"):
        to_onnx(lambda x: {"y": jax.lax.erf(x)}, {"x": ((3,), np.float32)}, "g")


def test_the_example_takes_the_same_crops(plain, stablehlo):
    face = load("onnx_video").Face.__new__(load("onnx_video").Face)
    face.about = json.loads((stablehlo / "manifest.json").read_text("utf-8"))
    frame = noise(200, 240, 3)
    for side in (20.0, 50.0, 70.0):  # enlarged, reduced, reduced by almost three
        box = np.array([60.3, 40.2, 60.3 + side, 40.2 + 0.9 * side])
        crop_from_frame = crop_around("extent", 1.3, SIZE, shape=frame.shape, box=box)
        image, frame_from_crop = face.crop(frame[..., ::-1], box)
        np.testing.assert_allclose(frame_from_crop, inverse(crop_from_frame), rtol=1e-5)
        difference = np.abs(image.astype(int) - warp(frame, crop_from_frame, SIZE))
        assert difference.max() <= 2 and difference.mean() < 0.2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing", "--strength=1"], "nothing is not what `ldeq export --format=onnx` writes"),
        (["exported", "--strength=-1"], "must be 0 or more"),
        (["exported", "--strength=nan"], "must be 0 or more"),
        (["exported", "--output=no/such.csv"], "no folder to write no/such.csv to"),
        (["exported", "--drawn=no/such.mp4"], "no folder to write no/such.mp4 to"),
    ],
)
def test_the_example_says_what_is_wrong(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "first.onnx").touch()
    with pytest.raises(SystemExit, match="2"):
        load("onnx_video").main([arguments[0], str(CLIP), *arguments[1:]])
    assert told in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("model", ["faces-68", "faces-68-tiny"])
def test_a_whole_clip_through_onnxruntime(model, tmp_path):
    """Within a thousandth of a pixel, also after resets and frames without the face."""
    pytest.importorskip("onnx", reason="not installed: make onnx")
    export_onnx(model, tmp_path)
    config, variables, _ = load_model(model)
    predictor, size = VideoPredictor(config, variables), config.model.image_size
    frames = [image for image, _ in VideoReader(CLIP).frames()]
    lost, resets, rule = {25, 26}, {12}, (config.data.crop, config.data.crop_scale)
    boxes = np.load(CLIP.parents[1] / "bboxes" / f"{CLIP.stem}.npy")[:, :4]
    for starts in ([0], [0, 7, 14, 21]):  # rows of a batch: the clip from several frames on
        graphs, states, worst, count = Graphs(tmp_path), [], 0.0, 0
        for t in range(len(frames) - max(starts)):
            if t in lost:
                continue
            follows = t > 0 and t not in resets and t - 1 not in lost
            states = states if follows else [None] * len(starts)
            given = [(frames[start + t], boxes[start + t]) for start in starts]
            crops = [crop_around(*rule, size, shape=frame.shape, box=box) for frame, box in given]
            images = np.stack(
                [warp(f, crop, size) for (f, _), crop in zip(given, crops, strict=True)]
            )
            matrices = inverse(np.stack(crops))
            found = graphs.step(images, np.float32(matrices), 0.04, follows)
            points = transform_points(matrices, found["landmarks"])
            steps = [
                predictor.step(*of, state, 0.04) for of, state in zip(given, states, strict=True)
            ]
            states = [state for _, state in steps]
            for row, (face, _) in enumerate(steps):
                worst = max(worst, np.abs(points[row] - face.points).max())
                for name in ("confidence", "probability"):
                    np.testing.assert_allclose(found[name][row], getattr(face, name), atol=1e-3)
            count += 1
        print(f"{model}, batch of {len(starts)}: {count} frames, farthest {worst:.1e} pixels")
        assert count > 35 and worst < 1e-3


@pytest.mark.slow
def test_the_example_follows_a_face_without_jax(tmp_path):
    pytest.importorskip("onnxruntime", reason="not installed: make onnx")
    ldeq("export", "faces-68", "--format=onnx", f"--output={tmp_path / 'exported'}")
    program = ROOT / "examples" / "onnx_video.py"
    code = (
        "import runpy, sys; sys.modules.update(jax=None, ldeq_jax=None);"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    table, drawn = tmp_path / "film.csv", tmp_path / "drawn.mp4"
    subprocess.run(
        [
            *(sys.executable, "-c", code, program, tmp_path / "exported", CLIP),
            *(f"--output={table}", f"--drawn={drawn}"),
        ],
        check=True,
        cwd=tmp_path,
    )
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    frames = [image for image, _ in VideoReader(CLIP).frames()]
    assert len(rows) == len(frames) == cv2.VideoCapture(str(drawn)).get(cv2.CAP_PROP_FRAME_COUNT)
    points = np.array([[[row[f"{a}{k}"] for a in "xy"] for k in range(68)] for row in rows], float)
    config, variables, _ = load_model("faces-68")
    follower, state = Follower(config, variables, config.rwr), None
    box = np.load(CLIP.parents[1] / "bboxes" / f"{CLIP.stem}.npy")[0, :4]
    away = []
    for t, frame in enumerate(frames):
        found, state = follower.step(frame, state, box if t == 0 else None, 0.04)
        away.append(np.linalg.norm(points[t] - found.points, axis=1).mean())
    print(f"mean {np.mean(away):.3f}, in the worst frame {np.max(away):.3f} pixels")
    assert np.max(away[10:]) < 0.5
