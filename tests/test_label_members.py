"""Laws of the members of an ensemble: variants of crops, models of ours, ONNX models of others."""

import dataclasses
import json
import sys
import types

import numpy as np
import pytest
from test_inference import CONFIG, MODEL, random_state

from ldeq_jax import weights
from ldeq_jax.data.config import DataConfig
from ldeq_jax.errors import UserError, one_line
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import crop_from_landmarks
from ldeq_jax.face.schema import IBUG_68, IBUG_IN_WFLW
from ldeq_jax.labelling.members import LdeqMember, load_ensemble
from ldeq_jax.labelling.onnx_member import OnnxMember, read_description
from ldeq_jax.labelling.variants import NAMES, split, unmirrored, varied

SHAPE = (90, 120, 3)
BOXES = np.array([[20.0, 15, 70, 71], [30, 20, 75, 66]])


def frames(count=2, seed=0):
    """Smooth pictures, which crops hardly alias."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    waves = rng.uniform(0.05, 0.3, (count, 3, 2))
    return [
        np.stack([128 + 90 * np.sin(a * x + 1) * np.cos(b * y) for a, b in of], -1).astype(np.uint8)
        for of in waves
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Directory of a model of 68 landmarks that has learnt nothing."""
    folder = tmp_path_factory.mktemp("model") / "released"
    faces = DataConfig(name="none", crop="landmarks", crop_scale=1.3, schema="ibug_68")
    config = dataclasses.replace(
        CONFIG, model=dataclasses.replace(MODEL, num_landmarks=68), data=faces
    )
    weights.export_model(folder, 3, random_state(config.model).variables(), config, {"nme": 1.0})
    return str(folder)


# Variants.


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("faces-68", ("faces-68", ())),
        ("faces-68:mirrored", ("faces-68", ("mirrored",))),
        ("a/b.json:wider+mirrored", ("a/b.json", ("wider", "mirrored"))),
        ("runs/10:30", ("runs/10:30", ())),
        ("odd:name:closer", ("odd:name", ("closer",))),
        (":mirrored", (":mirrored", ())),
    ],
)
def test_a_member_is_written_as_model_and_variants(text, parts):
    assert split(text) == parts


@pytest.mark.parametrize("variant", NAMES)
def test_a_variant_shows_the_face_in_another_crop(variant):
    usual = crop_from_landmarks(BOXES[0].reshape(2, 2), 64)
    other = varied(usual, 64, (variant,), 32)
    corners = np.array([[20.0, 15], [70, 71]])
    moved = geometry.transform_points(other, corners)
    assert np.abs(moved - geometry.transform_points(usual, corners)).max() > 1
    assert ((moved > -4) & (moved < 68)).all()  # the face is still in it
    side = np.sqrt(abs(np.linalg.det(usual) / np.linalg.det(other)))
    assert 0.9 < side < 1.15
    assert (np.linalg.det(other) < 0) == (variant == "mirrored")


def test_mirrored_twice_is_not_mirrored():
    usual = crop_from_landmarks(BOXES[0].reshape(2, 2), 64)
    twice = ("mirrored", "mirrored")
    np.testing.assert_allclose(varied(usual, 64, twice, 32), usual, atol=1e-12)
    points = np.arange(136.0).reshape(1, 68, 2)
    np.testing.assert_array_equal(unmirrored(points, 1, twice, IBUG_68), points)


def test_a_mirrored_member_finds_what_the_usual_one_finds_in_the_mirrored_picture(model):
    ensemble = load_ensemble([model, f"{model}:mirrored"])
    usual, mirrored = ensemble.members
    found = mirrored.find(frames(), BOXES)
    flipped = [np.ascontiguousarray(frame[:, ::-1]) for frame in frames()]
    width = SHAPE[1] - 1
    boxes = np.stack([width - BOXES[:, 2], BOXES[:, 1], width - BOXES[:, 0], BOXES[:, 3]], axis=1)
    other = usual.find(flipped, boxes)
    expected = other.points[:, list(IBUG_68.flip_permutation)]
    expected[..., 0] = width - expected[..., 0]
    np.testing.assert_allclose(found.points, expected, atol=0.3)
    assert np.abs(found.points - usual.find(frames(), BOXES).points).max() > 1


# Models of ours.


def test_a_member_is_asked_frame_by_frame(model):
    ensemble = load_ensemble([model, f"{model}:wider"])
    pictures, boxes = frames(3), BOXES[[0, 1, 0]]
    together = ensemble.find(pictures, boxes)
    assert together.points.shape == (2, 3, 68, 2) and together.spread.shape == (2, 3, 68)
    for order in ([2, 0, 1], [1]):
        alone = ensemble.find([pictures[t] for t in order], boxes[order])
        np.testing.assert_allclose(alone.points, together.points[:, order], atol=1e-2)


def test_variants_share_a_model_and_differ_in_their_marks(model):
    ensemble = load_ensemble([model, f"{model}:wider", f"{model}:closer"])
    assert isinstance(ensemble.members[0], LdeqMember)
    assert len({id(member._predictor) for member in ensemble.members}) == 1
    assert len(set(ensemble.marks)) == 3 and ensemble.own.all()
    assert ensemble.schema == IBUG_68


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["MODEL"], "is one model, whose errors nobody contradicts"),
        (["MODEL", "MODEL"], "names MODEL twice: leave one out, or show it another crop"),
        (["MODEL", "nothing-68"], "--members, nothing-68: "),
        (["MODEL", "MODEL:upside"], "After a colon may be mirrored, wider"),
        (["MODEL", "absent.json"], "absent.json does not describe an ONNX model"),
    ],
)
def test_members_of_no_use_are_refused(model, names, message):
    with pytest.raises(UserError) as raised:
        load_ensemble([name.replace("MODEL", model) for name in names])
    assert message.replace("MODEL", model) in str(raised.value)


# ONNX models of others.


class Network:
    """A network of ONNX that finds, in its crop, places that are known."""

    given: list[np.ndarray] = []
    answer = np.zeros(0)

    def __init__(self, file, providers):
        if file.read_bytes() == b"broken":
            raise RuntimeError("no protobuf\nat all")

    def get_inputs(self):
        return [types.SimpleNamespace(name="picture")]

    def get_outputs(self):
        return [types.SimpleNamespace(name=name) for name in ("points", "other")]

    def run(self, outputs, given):
        assert outputs == ["points"]
        self.given.append(given["picture"])
        return [np.asarray(self.answer, np.float32).reshape(1, -1)]


@pytest.fixture
def runtime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace(InferenceSession=Network))
    monkeypatch.setattr(Network, "given", [])


def describe(folder, content=b"whole", **fields):
    """A description, and the file that it names."""
    (folder / "net.onnx").write_bytes(content)
    path = folder / "net.json"
    known = {"model": "net.onnx", "schema": "ibug_68", "side": 32}
    path.write_text(json.dumps(known | fields))
    return path


def onnx(folder, *variants, **fields):
    return OnnxMember("net", describe(folder, **fields), variants)


PLACES = np.random.default_rng(0).uniform(0.1, 0.9, (68, 2))


@pytest.mark.parametrize("unit", ["crop", "pixels"])
def test_places_in_the_crop_are_places_in_the_frame(runtime, tmp_path, monkeypatch, unit):
    answer = PLACES if unit == "crop" else 32 * PLACES - 0.5
    monkeypatch.setattr(Network, "answer", answer)
    found = onnx(tmp_path, unit=unit, scale=1.5).find(frames(), BOXES)
    for points, box in zip(found.points, BOXES, strict=True):
        side = 1.5 * ((box[2:] - box[:2]).max() + 1)
        np.testing.assert_allclose(
            points, (box[:2] + box[2:]) / 2 + (PLACES - 0.5) * side, atol=1e-4
        )
    assert np.isnan(found.spread).all() and found.ok.all()


def test_a_mirrored_network_finds_mirrored_places(runtime, tmp_path, monkeypatch):
    monkeypatch.setattr(Network, "answer", PLACES)
    usual, mirrored = onnx(tmp_path), onnx(tmp_path, "mirrored")
    one, other = usual.find(frames(), BOXES).points, mirrored.find(frames(), BOXES).points
    middle = (BOXES[:, 0] + BOXES[:, 2]) / 2
    expected = one[:, list(IBUG_68.flip_permutation)]
    expected[..., 0] = 2 * middle[:, None] - expected[..., 0]
    np.testing.assert_allclose(other, expected, atol=1e-4)


def test_pictures_are_given_as_described(runtime, tmp_path, monkeypatch):
    monkeypatch.setattr(Network, "answer", PLACES)
    red = np.zeros(SHAPE, np.uint8)
    red[..., 0] = 200
    onnx(tmp_path).find([red], BOXES[:1])
    fields = {"channels": "bgr", "layout": "nhwc", "mean": [1, 2, 100], "deviation": [1, 1, 50]}
    onnx(tmp_path, **fields).find([red], BOXES[:1])
    usual, described = Network.given
    assert usual.shape == (1, 3, 32, 32) and described.shape == (1, 32, 32, 3)
    np.testing.assert_allclose(usual[0, :, 16, 16], [200 / 255, 0, 0], atol=1e-6)
    np.testing.assert_allclose(described[0, 16, 16], [-1, -2, 2], atol=1e-6)


def test_more_landmarks_than_those_of_the_labels_are_chosen(runtime, tmp_path, monkeypatch, model):
    places = np.random.default_rng(1).uniform(0.1, 0.9, (98, 2))
    monkeypatch.setattr(Network, "answer", places)
    path = str(describe(tmp_path, schema="wflw_98"))
    ensemble = load_ensemble([model, path])
    assert ensemble.schema == IBUG_68 and ensemble.own.tolist() == [True, False]
    found = ensemble.find(frames(), BOXES).points[1]
    everything = ensemble.members[1].find(frames(), BOXES).points
    np.testing.assert_allclose(found, everything[:, list(IBUG_IN_WFLW)], atol=1e-4)
    with pytest.raises(UserError, match="are not known: name a member first whose landmarks all"):
        load_ensemble([path, model])


def test_points_are_chosen_by_their_numbers(runtime, tmp_path, monkeypatch):
    monkeypatch.setattr(Network, "answer", np.concatenate([PLACES[:2], PLACES]))
    found = onnx(tmp_path, points=list(range(2, 70))).find(frames(), BOXES).points
    monkeypatch.setattr(Network, "answer", PLACES)
    np.testing.assert_allclose(found, onnx(tmp_path).find(frames(), BOXES).points, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"side": "32"}, "'side' must be a number of pixels"),
        ({"sides": 32}, "has an unknown field 'sides'; there are model, schema, side, scale"),
        ({"layout": "chw"}, "'layout' must be one of nchw, nhwc"),
        ({"mean": "none"}, "'mean' must be a number, or one for each of 3 channels"),
        ({"points": [1, 2]}, "'points' names 2 landmarks, ibug_68 has 68"),
        ({"schema": "ibug"}, "no landmark schema 'ibug'"),
        ({"model": "absent.onnx"}, 'absent.onnx; correct its "model"'),
        ({"output": "heatmap"}, "has no output 'heatmap'; it has points, other"),
        ({"content": b"broken"}, "is no ONNX model that can be run (no protobuf)"),
    ],
)
def test_descriptions_of_no_use_are_refused(runtime, tmp_path, fields, message):
    with pytest.raises(UserError) as raised:
        onnx(tmp_path, **fields)
    assert message in str(raised.value)


def test_what_does_not_describe_a_network_is_refused(tmp_path):
    path = tmp_path / "net.json"
    for text, message in (
        ("[1]", "it holds a list"),
        ("{", "does not describe an ONNX model"),
        ('{"model": "a.onnx"}', "lacks 'schema'"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_description(path)


def test_an_output_of_other_landmarks_is_refused(runtime, tmp_path, monkeypatch):
    monkeypatch.setattr(Network, "answer", np.zeros(20))
    with pytest.raises(UserError, match=r"ibug_68 has 68 landmarks, the output points of shape"):
        onnx(tmp_path).find(frames(), BOXES)


def test_a_missing_onnxruntime_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError) as raised:
        onnx(tmp_path)
    assert "pip install 'ldeq_jax[ensemble]'" in (one_line(raised.value) or "")
