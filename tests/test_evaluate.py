"""`ldeq evaluate`: it writes what the model predicts, and prints user errors as one line."""

import collections
import contextlib
import csv
import dataclasses
import importlib.util
import inspect
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import types

import cv2
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags
from pages import Page
from test_data import ToyFaces
from test_inference import CONFIG, MODEL, random_state
from test_video_evaluation import FEW, SCHEMA, ToyClips

from ldeq_jax import errors, weights
from ldeq_jax.cli import calibrate
from ldeq_jax.cli import evaluate as cli
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.faces import _FaceReader
from ldeq_jax.data.sources import FaceSource, VideoSource
from ldeq_jax.errors import UserError
from ldeq_jax.evaluation import evaluate, face_results, faces, labels
from ldeq_jax.evaluation import scores as scoring
from ldeq_jax.evaluation.face_results import FaceResults
from ldeq_jax.evaluation.faces import FaceEvaluator
from ldeq_jax.evaluation.settings import recurrence_grid
from ldeq_jax.evaluation.video_results import VideoResults
from ldeq_jax.evaluation.videos import VideoEvaluator, VideoOptions
from ldeq_jax.face import geometry, metrics, video_metrics
from ldeq_jax.face.crops import crop_from_landmarks
from ldeq_jax.face.schema import FGNET_68, IBUG_68, WFLW_98, LandmarkSchema
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.media import files
from ldeq_jax.model.rwr import RwRConfig

SPREAD = RwRConfig(weighting="spread")
ROOT = pathlib.Path(__file__).parents[1]
SIZE = MODEL.image_size


@contextlib.contextmanager
def script(name, *arguments):
    """A script with its command line parsed. They share names of flags, so flags are taken back."""
    # Those of train.py, which other tests import.
    aside = {name: flags.FLAGS[name] for name in {"distributed", "host_timeout"} & set(flags.FLAGS)}
    for flag in aside:
        delattr(flags.FLAGS, flag)
    before = set(flags.FLAGS)
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        module.argv = flags.FLAGS([f"{name}.py", *map(str, arguments)])
        yield module
    finally:
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)
        for flag, value in aside.items():
            flags.FLAGS[flag] = value


def call(name, *arguments):
    if name == "evaluate":
        assert cli.main([*map(str, arguments)]) == 0
        return
    with script(name, *arguments) as module:
        module.main(module.argv)


def complaint(name, *arguments):
    """The one line with which a command ends."""
    try:
        call(name, *arguments)
    except SystemExit as ended:
        assert isinstance(ended.code, str), "sys.exit prints text and returns 1"
        return ended.code
    except Exception as error:
        line = errors.one_line(error)
        if line is None:
            raise
        return f"{name}.py: {line}"
    pytest.fail("nothing was wrong")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    ToyFaces.pkg_dir_path = folder
    tfds.disable_progress_bar()
    ToyFaces(data_dir=folder, file_format="array_record").download_and_prepare()
    return str(folder)


@pytest.fixture(scope="module")
def config(data_dir):
    faces = DataConfig(
        name="toy_faces", data_dir=data_dir, crop="landmarks", crop_scale=1.3, schema="ibug_68"
    )
    model = dataclasses.replace(MODEL, num_landmarks=68)
    return dataclasses.replace(CONFIG, model=model, data=faces)


@pytest.fixture(scope="module")
def model(config, tmp_path_factory):
    """Directory of a model that has learnt nothing."""
    folder = tmp_path_factory.mktemp("model") / "released"
    weights.export_model(folder, 3, random_state(config.model).variables(), config, {"nme": 1.0})
    return folder


@pytest.fixture(scope="module")
def decoded():
    """How often each face was cropped by the evaluation of `evaluated`, by its number."""
    return collections.Counter()


@pytest.fixture(scope="module")
def evaluated(model, decoded, tmp_path_factory):
    """Directory of the results on the seven faces of the test split."""
    output = tmp_path_factory.mktemp("evaluated") / "deep" / "down"
    output.mkdir(parents=True)
    options = ["--budgets=4,0,6,1", "--batch_size=3"]
    crop = _FaceReader.__call__

    def counting(self, index, rng):
        decoded[index] += 1
        return crop(self, index, rng)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_FaceReader, "__call__", counting)
        call("evaluate", f"--checkpoint={model}", f"--output={output}", *options)
    return output


def numbers(output):
    return json.loads((output / "metrics.json").read_text())


def test_sigterm_ends_an_evaluation_with_its_own_code(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(weights, "load_model", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        call("evaluate", "--checkpoint=a", f"--output={tmp_path}")
    assert ended.value.code == 143
    assert capsys.readouterr().err.endswith(": stopped by SIGTERM\n")


# Evaluation -----------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_faces_in_picture_pixels(evaluated, model, data_dir):
    predictor = Predictor.load(model)
    source = FaceSource("toy_faces", "test", data_dir)
    expected = []
    for index in range(len(source)):
        item = source[index]
        crop = crop_from_landmarks(item["landmarks"], SIZE, 1.3)
        seen = predictor(geometry.warp(item["image"], crop, SIZE)[None]).landmarks[0]
        found = geometry.transform_points(geometry.inverse(crop), SIZE * np.asarray(seen))
        distance = np.linalg.norm(found - item["landmarks"], axis=-1).mean()
        expected.append(distance / np.linalg.norm(item["landmarks"][36] - item["landmarks"][45]))
    with (evaluated / "faces.csv").open() as file:
        lines = list(csv.DictReader(file))
    np.testing.assert_allclose(
        [float(r["nme"]) for r in lines], 100 * np.array(expected), atol=1e-2
    )
    assert [int(line["index"]) for line in lines] == list(range(7))
    assert [line["name"] for line in lines] == [source.annotation(i)["name"] for i in range(7)]
    everyone = numbers(evaluated)["subsets"]["all"]
    assert everyone["faces"] == 7
    assert everyone["nme"] == pytest.approx(100 * np.mean(expected), rel=1e-4)
    assert everyone["fr10"] == pytest.approx(100 * metrics.failure_rate(expected))


def test_every_face_is_decoded_once_for_all_budgets(evaluated, decoded):
    assert len(numbers(evaluated)["budgets"]) == 4
    first, *others = (decoded[index] for index in range(7))
    assert others == [1] * 6 and first == 2  # it also fills up the last batch
    assert decoded.total() == 8


def test_a_subset_is_the_faces_with_an_attribute_that_not_all_have(evaluated):
    with (evaluated / "faces.csv").open() as file:
        lines = list(csv.DictReader(file))
    # Faces 20 ... 26: all of them are late, three are odd.
    assert all(line["odd"] == str(int(line["name"][-2:]) % 2) for line in lines)
    assert all(line["late"] == "1" for line in lines)
    subsets = numbers(evaluated)["subsets"]
    assert list(subsets) == ["all", "odd"] and subsets["odd"]["faces"] == 3
    odd = [float(line["nme"]) for line in lines if line["odd"] == "1"]
    assert subsets["odd"]["nme"] == pytest.approx(np.mean(odd), rel=1e-4)
    assert subsets["odd"]["nme"] != pytest.approx(subsets["all"]["nme"], rel=1e-4)


def test_the_trained_budget_is_the_evaluation_itself(evaluated):
    record = numbers(evaluated)
    assert list(record["budgets"]) == ["0", "1", "4", "6"]
    assert record["solver"]["max_steps"] == 4
    assert record["budgets"]["4"] == record["subsets"]
    for budget, subsets in record["budgets"].items():
        assert subsets["all"]["num_steps"] <= int(budget)
    assert record["budgets"]["6"]["all"]["num_steps"] == 6, "more than the trained budget"
    assert record["budgets"]["1"]["all"]["nme"] != record["budgets"]["4"]["all"]["nme"]


def test_everything_is_written(evaluated, model):
    drawings = ["budgets.png", "cumulative_error.png", "faces.png"]
    written = {path.name for path in evaluated.iterdir()}
    assert written == {"faces.csv", "metrics.json", "report.html", "table.md", *drawings}
    for name in drawings:
        assert cv2.imread(str(evaluated / name)).std() > 5
    record = numbers(evaluated)
    assert record["checkpoint"] == str(model) and record["step"] == 3
    assert (record["dataset"], record["split"]) == ("toy_faces", "test")
    assert record["crop"] == {"rule": "landmarks", "scale": 1.3}
    table = re.sub(" +", " ", (evaluated / "table.md").read_text())
    for row in (*record["subsets"].values(), record["budgets"]["1"]["all"]):
        assert f" {row['nme']:.3f} | {row['fr10']:.3f} | {row['auc10']:.3f} " in table


def test_results_do_not_depend_on_the_batch_and_flags_change_the_solver(
    evaluated, model, tmp_path, capsys
):
    options = ["--batch_size=7", "--max_steps=6", "--tol=0", "--split=test[:2]+test[2:]"]
    (tmp_path / "budgets.png").write_text("of another day")
    options.append("--overwrite")
    call("evaluate", f"--checkpoint={model}", f"--output={tmp_path}", *options)
    assert not (tmp_path / "budgets.png").exists()
    assert "7 faces" in capsys.readouterr().out
    record = numbers(tmp_path)
    assert record["solver"] | {"max_steps": 6, "tol": 0.0} == record["solver"]
    again, before = record["subsets"]["all"], numbers(evaluated)["budgets"]["6"]["all"]
    assert again["num_steps"] == 6
    assert again["nme"] == pytest.approx(before["nme"], rel=1e-4)


def test_faces_without_a_size_are_left_out_and_counted(
    evaluated, model, tmp_path, monkeypatch, capsys
):
    annotation = FaceSource._face

    def degenerate(self, index):
        face, data = annotation(self, index)
        if index == 1:
            face["landmarks"] = np.zeros_like(face["landmarks"])
        return face, data

    monkeypatch.setattr(FaceSource, "_face", degenerate)
    call("evaluate", f"--checkpoint={model}", f"--output={tmp_path}", "--batch_size=3")
    before, found = numbers(evaluated), numbers(tmp_path)
    with (evaluated / "faces.csv").open() as one, (tmp_path / "faces.csv").open() as other:
        lines, kept = list(csv.reader(one)), list(csv.reader(other))
    name = lines[2][lines[0].index("name")]
    assert (before["left_out"], before["num_faces"]) == ([], 7)
    assert (found["left_out"], found["num_faces"]) == ([name], 6)
    assert f"1 faces left out whose labels or box have no size: {name}" in capsys.readouterr().out
    assert kept == lines[:2] + lines[3:]
    nme = np.mean([float(line[kept[0].index("nme")]) for line in kept[1:]])
    assert found["subsets"]["all"]["nme"] == pytest.approx(nme, abs=1e-3)


def test_the_precision_can_be_another_than_in_training(evaluated, model, tmp_path):
    call("evaluate", f"--checkpoint={model}", f"--output={tmp_path}", "--dtype=bfloat16")
    records = numbers(evaluated), numbers(tmp_path)
    assert [record["dtype"] for record in records] == ["float32", "bfloat16"]
    full, half = (record["subsets"]["all"]["nme"] for record in records)
    assert half != full and half == pytest.approx(full, rel=0.05)


@pytest.mark.parametrize("crop", ["box", "landmarks", "none"])
def test_exact_landmarks_have_no_error_in_any_crop(config, monkeypatch, crop):
    data = dataclasses.replace(config.data, crop=crop, crop_scale=0.7, batch_size=4)
    predictor = Predictor(dataclasses.replace(config, data=data), {})

    def perfect(self, batches, budget):
        kept = [(b.landmarks + off, b.frame_from_crop, b.index) for b in batches]
        columns = zip(*kept, strict=True)
        result = zip(["landmarks", "frame_from_crop", "index"], columns, strict=True)
        return {key: np.concatenate(value)[:7] for key, value in result}

    source = FaceSource("toy_faces", "test", config.data.data_dir)
    annotations = [source.annotation(index) for index in range(7)]
    monkeypatch.setattr(Predictor, "batches", perfect)
    off = np.zeros(2)
    found = faces.measure(predictor, annotations, IBUG_68, [1])[1]
    np.testing.assert_allclose(found["nme"], 0, atol=1e-5)
    off = np.array([1.0, 0.0])  # the whole width of the crop
    found = faces.measure(predictor, annotations, IBUG_68, [1])[1]
    for label, nme in zip(annotations, found["nme"], strict=True):
        extent = np.ptp(label["landmarks"], axis=0).max()
        side = 240 if crop == "none" else 0.7 * extent
        eyes = np.linalg.norm(label["landmarks"][36] - label["landmarks"][45])
        assert nme == pytest.approx(side / eyes, rel=0.03 if crop == "box" else 1e-4)


def test_a_face_without_landmarks_is_a_failure():
    result = {
        "nme": np.array([0.02, np.nan, 0.2, 0.04]),
        "num_steps": np.array([1, 2, 3, 4]),
        "residual": np.full(4, 0.5),
        "converged": np.array([True, False, False, True]),
        "diverged": np.zeros(4, bool),
    }
    row = face_results.summary(result, np.ones(4, bool))
    assert row["fr10"] == 50 and np.isnan(row["nme"])
    assert 0 < row["auc10"] < 0.5 and row["converged"] == 50
    assert face_results.summary(result, np.array([True, False, False, True]))["nme"] == 3


def test_the_report_says_what_the_record_says(evaluated, model):
    record, page = numbers(evaluated), Page(evaluated / "report.html").check()
    assert [row["faces of"] for row in page.rows()] == list(record["subsets"])
    for row, numbers_of in zip(page.rows(), record["subsets"].values(), strict=True):
        assert (
            row["number"] == str(numbers_of["faces"])
            and row["NME (%)"] == f"{numbers_of['nme']:.3f}"
        )
        assert row["FR10 (%)"] == f"{numbers_of['fr10']:.3f}"
        assert row["AUC10"] == f"{numbers_of['auc10']:.3f}"
    budgets = page.rows(1)
    assert [row["steps allowed"] for row in budgets] == list(record["budgets"])
    for text in (record["command"], str(model), record["versions"]["jax"], "toy_faces"):
        assert text in page.text
    assert len([tag for tag, _ in page.elements if tag == "img"]) == 7 + 3, "faces and charts"
    [landmarks] = [page.rows(k) for k, table in enumerate(page.tables) if len(table) == 69]
    mean = np.mean([float(row["error (%)"]) for row in landmarks])
    assert mean == pytest.approx(record["subsets"]["all"]["nme"], rel=1e-3)
    curve = page.charts[0]["series"]
    assert [series["name"] for series in curve] == ["all", "odd"]
    share = 100 - record["subsets"]["all"]["fr10"]
    assert curve[0]["points"][-1] == [10, pytest.approx(share, abs=1e-3)]


@pytest.mark.parametrize("split", ["test[:1]", "test"])
def test_faces_without_landmarks_make_a_report(model, tmp_path, monkeypatch, split):
    batches = Predictor.batches

    def lost(self, group, budget):
        found = batches(self, group, budget=budget)
        if split == "test":
            found["landmarks"] = np.full_like(found["landmarks"], np.nan)
        return found

    monkeypatch.setattr(Predictor, "batches", lost)
    call("evaluate", f"--checkpoint={model}", f"--output={tmp_path}", f"--split={split}")
    page = Page(tmp_path / "report.html").check()
    [row] = [row for row in page.rows() if row["faces of"] == "all"]
    if split == "test":
        assert (row["number"], row["NME (%)"], row["FR10 (%)"]) == ("7", "–", "100.000")
        assert "7 faces got no finite landmarks" in page.text
        assert "No face has an error to show" in page.text
    else:
        assert row["number"] == "1" and "All faces, from the best to the worst" in page.text


# Videos ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(data_dir):
    """Settings of a data set of videos whose landmarks have a schema of their own."""
    ToyClips.pkg_dir_path = pathlib.Path(data_dir)
    ToyClips(data_dir=data_dir, file_format="array_record").download_and_prepare()
    return DataConfig(
        name="toy_clips", data_dir=data_dir, crop="extent", crop_scale=1.3, schema=SCHEMA
    )


@pytest.fixture(scope="module")
def video_model(clips, tmp_path_factory):
    """Directory of a model for them that has learnt nothing."""
    model = dataclasses.replace(MODEL, num_landmarks=7)
    folder = tmp_path_factory.mktemp("video_model") / "released"
    config = dataclasses.replace(CONFIG, model=model, data=clips)
    weights.export_model(folder, 3, random_state(model).variables(), config, {"nme": 1.0})
    return folder


@pytest.fixture(scope="module")
def loaded():
    """How often each video was loaded by the evaluation of `compared`, by its name."""
    return collections.Counter()


@pytest.fixture(scope="module")
def compared(video_model, loaded, tmp_path_factory):
    """Directory of the results on videos, of few settings."""
    output = tmp_path_factory.mktemp("compared") / "new"
    options = ["--tuning_split=tuning", "--aligns=none", "--penalties=1,2", "--slack=5"]
    options += ["--budgets=2,0", "--chunk_frames=8", "--show=films/r"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "FILTERS", FEW)
        example = VideoSource._example

        def counting(self, index):
            found = example(self, index)
            loaded[found["name"].decode()] += 1
            return found

        patch.setattr(VideoSource, "_example", counting)
        call("evaluate", f"--checkpoint={video_model}", f"--output={output}", *options)
    return output


def test_the_frames_alone_are_those_of_the_predictor(compared, video_model, clips):
    predictor = Predictor.load(video_model)
    source = VideoSource("toy_clips", "test", clips.data_dir)
    with (compared / "videos.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "each frame alone"]
    assert {row["name"] for row in rows} == {"films/r", "s", "u", "x"}
    row = next(row for row in rows if row["name"] == "s")
    video = source.annotation(int(row["index"]))
    boxes, frames = video["boxes"].reshape(-1, 2, 2), source.frames(int(row["index"]))
    crops = np.stack([crop_from_landmarks(box, SIZE, 1.3) for box in boxes])
    images = [geometry.warp(*pair, SIZE) for pair in zip(frames, crops, strict=True)]
    seen = SIZE * np.asarray(predictor(np.stack(images)).landmarks)
    found = geometry.transform_points(geometry.inverse(crops), seen)
    pair = found[None], video["landmarks"][None], video["mask"][None]
    nme = video_metrics.video_nme(*pair, eye_corners=(0, 1))[0]
    assert float(row["nme"]) == pytest.approx(100 * nme, rel=1e-4)
    assert float(row["nmf"]) == pytest.approx(video_metrics.nmf(*pair)[0], rel=1e-3)
    assert row["frames"] == "8" and row["easy"] == "1" and row["hard"] == "1"


def test_a_video_is_loaded_once_by_an_evaluation_and_again_to_be_drawn(compared, loaded, clips):
    names = [VideoSource("toy_clips", split, clips.data_dir).names for split in ("tuning", "test")]
    once = dict.fromkeys([name for split in names for name in split], 1)
    assert loaded == once | {"films/r": 2}


def test_stills_and_videos_are_evaluated_by_one_shape_of_evaluator(evaluated, compared):
    evaluators, results = (FaceEvaluator, VideoEvaluator), (FaceResults, VideoResults)
    for protocol, classes in ((evaluate.Evaluator, evaluators), (evaluate.Results, results)):
        methods = {name for name, value in vars(protocol).items() if callable(value)}
        methods = {name for name in methods if not name.startswith("_")}
        assert methods
        for method, kind in itertools.product(methods, classes):
            expected = inspect.signature(getattr(protocol, method)).parameters
            assert inspect.signature(getattr(kind, method)).parameters == expected, method
    common = {"checkpoint", "step", "command", files.RECORD, "dataset", "split", "schema", "crop"}
    common |= {"solver", "dtype", "left_out", "subsets"}
    assert all(common <= numbers(folder).keys() for folder in (evaluated, compared))
    for folder, kind in ((evaluated, FaceEvaluator), (compared, VideoEvaluator)):
        assert {path.name for path in folder.iterdir()} <= set(kind.written)
        assert set(kind.written) <= set(numbers(folder)[files.RECORD])


def test_videos_are_compared_as_the_flags_say(compared, video_model):
    record = numbers(compared)
    settings = [row["setting"] for row in record["reported"] if row["method"].startswith("RwR")]
    grid = [f"penalty {p}, budget {b}" for b in (0, 2) for p in (1, 2)]
    configured = "hold_seconds 0.04, follow_seconds 0.01, budget 0"
    assert settings == ["budget 0", "budget 2", configured, *grid]
    evaluations = {row["setting"]: row["evaluations_per_frame"] for row in record["reported"]}
    assert 1 < evaluations["budget 0"] < 3 < evaluations["budget 2"] < 4
    assert record["slack"] == 0.05 and record["left_out"]
    assert (record["checkpoint"], record["step"]) == (str(video_model), 3)
    assert (record["dataset"], record["schema"]) == ("toy_clips", "own_7")
    assert (record["split"], record["tuning_split"]) == ("test", "tuning")
    assert record["crop"] == {"rule": "extent", "scale": 1.3}
    assert record["solver"]["max_steps"] == 4 and record["command"].startswith("ldeq evaluate ")
    written = {str(path.relative_to(compared)) for path in compared.rglob("*.*")}
    tables = {"metrics.json", "table.md", "settings.csv", "videos.csv", "trade_off.png"}
    assert written == tables | {"flicker/films_r.png", "report.html"}
    assert list(record["subsets"]) == ["easy"]


def test_what_is_wanted_of_videos_is_passed_on(video_model, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(evaluate, "evaluate", lambda *args, **named: seen.append((args, named)))
    options = ["--tuning_split=tuning", "--follows=.5", "--penalties=1", "--weighting=spread"]
    options += ["--overlays", "--remove_offset", "--chunk_frames=8", "--show=s,u", "--tol=0"]
    options += ["--slack=5", "--points=p.json", "--split=test[1:]", "--crop_scale=2"]
    options += ["--fusions=geometric", "--filter_budgets=2,0"]
    call("evaluate", f"--checkpoint={video_model}", f"--output={tmp_path}", *options)
    [((config, variables, output), named)] = seen
    assert config.model.forward.tol == 0 and "params" in variables
    assert (config.data.eval_split, config.data.crop_scale) == ("test[1:]", 2.0)
    assert config.data.schema == SCHEMA and config.rwr.weighting == "spread"
    assert config.data.batch_size % jax.device_count() == 0
    assert named["videos"] == VideoOptions(
        recurrences=recurrence_grid(
            [0, 1], [1], [0.5], ["none", "crop", "face"], ["geometric"], SPREAD
        ),
        tuning_split="tuning",
        filter_budgets=[0, 2],
        slack=0.05,
        points="p.json",
        remove_offset=True,
        shown=["s", "u"],
        overlays=True,
        chunk_frames=8,
    )
    assert (output, named["overwrite"]) == (str(tmp_path), False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "videos need --tuning_split, on which"),
        (["--tuning_split=test"], "6 videos are in both the tuning split test and"),
        (["--tuning_split=tuning", "--show=s,nobody"], "no video 'nobody' to show"),
        (["--tuning_split=tuning[:0]"], "holds no videos"),
        (["--tuning_split=nothing"], "split 'nothing' of toy_clips.*'tuning': 3"),
        (["--tuning_split=tuning", "--budgets=0,5"], "--budgets cannot exceed the solver's 4 st"),
        (["--tuning_split=tuning", "--filter_budgets=5"], "--filter_budgets cannot exceed the "),
        (["--tuning_split=tuning", "--fusions=sum"], "fusion must be one of .* not 'sum'"),
        (["--tuning_split=tuning", "--penalties=-1"], "penalty must not be negative"),
        (["--tuning_split=tuning", "--penalties=nan"], "penalty must not be negative"),
        (["--tuning_split=tuning", "--follows=2"], r"follow must be in \(0, 1\]"),
        (["--tuning_split=tuning", "--aligns=side"], "align must be one of .* not 'side'"),
    ],
)
def test_mistakes_with_videos_are_found_before_anything_is_computed(
    video_model, tmp_path, options, message
):
    output = tmp_path / "new"
    found = complaint("evaluate", f"--checkpoint={video_model}", f"--output={output}", *options)
    assert re.match(rf"evaluate\.py: (?s:.*){message}", found), found
    assert not output.exists()


def test_videos_of_other_landmarks_need_points(clips, config, tmp_path):
    other = dataclasses.replace(config, data=dataclasses.replace(clips, schema="ibug_68"))
    weights.export_model(
        tmp_path / "model", 3, random_state(config.model).variables(), other, {"nme": 1.0}
    )
    options = [f"--checkpoint={tmp_path / 'model'}", f"--output={tmp_path}"]
    found = complaint("evaluate", *options, "--tuning_split=tuning")
    assert "predicts the landmarks ibug_68" in found and "labelled with own_7" in found


def test_points_name_a_labelled_landmark_for_each_predicted(tmp_path):
    path = tmp_path / "points.json"
    path.write_text('{"36": 27, "0": 67}')
    assert labels.read_points(path, IBUG_68, FGNET_68) == {36: 27, 0: 67}
    for text, message in {
        "[1, 2": "must hold JSON such as",
        "[1, 2]": "must hold JSON such as",
        '{"nose": 3}': "must hold JSON such as .*'nose'",
        '{"68": 3}': "ibug_68 has landmarks 0 to 67, no 68",
        '{"-1": 3}': "ibug_68 has landmarks 0 to 67, no -1",
        '{"3": 98}': "wflw_98 has landmarks 0 to 97, no 98",
        '{"3": 1.0}': "wflw_98 has landmarks 0 to 97, no 1.0",
        '{"3": true}': "wflw_98 has landmarks 0 to 97, no True",
        '{"3": 7, "4": 7}': "one labelled landmark or more, each for one",
        '{"3": 7, "03": 8}': "one labelled landmark or more, each for one",
        "{}": "one labelled landmark or more",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=f"points.json.*{message}"):
            labels.read_points(path, IBUG_68, WFLW_98)
    with pytest.raises(OSError, match="missing.json"):
        labels.read_points(tmp_path / "missing.json", IBUG_68, WFLW_98)


# Mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset=nothing"], "no data set 'nothing'"),
        (["--split=nothing"], "split 'nothing' of toy_faces.*'test': 7"),
        (["--split=test[:0]"], "no faces"),
        (["--split=broken"], r"face \d of toy_faces:broken, toy/3\d"),
        (["--crop_scale=-2"], "crop_scale must be"),
        (["--checkpoint=nowhere"], "there is no folder nowhere"),
        (["--remove_offset"], "--remove_offset is for videos; toy_faces holds pictures"),
        (["--penalties=1,2", "--overlays"], "--penalties is for videos"),
    ],
)
def test_mistakes_are_printed_as_one_line(model, tmp_path, options, message):
    found = complaint("evaluate", f"--checkpoint={model}", f"--output={tmp_path}", *options)
    assert re.match(rf"evaluate\.py: (?s:.*){message}", found), found


def test_a_damaged_model_is_named(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "3" / "weights")
    found = complaint("evaluate", f"--checkpoint={tmp_path / 'model'}", "--output=out")
    assert re.match(r"evaluate\.py: .*model/3 cannot be read", found), found


def test_landmarks_that_mean_something_else_are_refused(config, tmp_path):
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, schema="fgnet_68"))
    weights.export_model(
        tmp_path / "model", 3, random_state(config.model).variables(), other, {"nme": 1.0}
    )
    found = complaint("evaluate", f"--checkpoint={tmp_path / 'model'}", f"--output={tmp_path}")
    assert "predicts the landmarks fgnet_68" in found and "labelled with ibug_68" in found


OWN = LandmarkSchema(
    name="mine", num_landmarks=68, flip_permutation=IBUG_68.flip_permutation, eye_corners=(36, 45)
)


@pytest.mark.parametrize(
    ("labelled", "named", "message"),
    [
        (OWN, OWN, None),
        (OWN, "mine", None),
        (OWN, dataclasses.replace(OWN, eye_corners=(39, 42)), r"\(36, 45\) against \(39, 42\)"),
        (OWN, dataclasses.replace(OWN, name="yours"), "labelled with yours;"),
        (SCHEMA, "own_7", "7 against 68 landmarks"),
        (dataclasses.replace(FGNET_68, name="ibug_68"), "ibug_68", "other mirror images"),
    ],
)
def test_a_name_alone_makes_no_schema(labelled, named, message):
    source = types.SimpleNamespace(schema=named, num_landmarks=68, where="toy:test")
    if message is None:
        labels.check_schema(labelled, source)
    else:
        with pytest.raises(UserError, match=message):
            labels.check_schema(labelled, source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budgets=1,two"], "--budgets: needs whole numbers .* 'two'"),
        (["--budgets=-1"], "--budgets: needs whole numbers .* '-1'"),
        (["something"], "unrecognized arguments: something"),
        (["--penalties=1,two"], "--penalties: needs numbers such as 0.5,.* 'two'"),
        (["--follows=1;2"], "--follows: needs numbers such as .* '1;2'"),
        (["--max_steps=0"], "--max_steps: must be a whole number of 1 or more, not '0'"),
        (["--slack=-1"], "--slack: must be a number of 0 or more, not '-1'"),
        (["--slack=x"], "--slack: must be a number of 0 or more, not 'x'"),
        (["--check=b"], "unrecognized arguments: --check=b"),
    ],
)
def test_a_command_line_without_sense_is_a_usage_error(options, message, capsys):
    with pytest.raises(SystemExit) as ended:
        call("evaluate", "--checkpoint=a", "--output=b", *options)
    assert ended.value.code == 2
    assert re.search(f"ldeq evaluate: error: .*{message}", capsys.readouterr().err)


@pytest.mark.parametrize("missing", ["checkpoint", "output"])
def test_what_is_needed_is_named(missing, capsys):
    given = {"checkpoint": "--checkpoint=a", "output": "--output=b"}
    with pytest.raises(SystemExit):
        call("evaluate", *(flag for name, flag in given.items() if name != missing))
    assert f"required: --{missing}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["metrics.json", "table.md", "faces.png", "budgets.png"])
def test_results_of_others_are_not_replaced(model, tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    found = complaint("evaluate", f"--checkpoint={model}", f"--output={tmp_path}")
    assert f"{tmp_path / name} exists" in found and "--overwrite" in found
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"mine")]


@pytest.mark.parametrize("name", ["videos.csv", "flicker/mine.png", "overlays/mine.mp4"])
def test_results_on_videos_replace_nothing_of_others(video_model, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"mine")
    options = "--tuning_split=tuning", f"--checkpoint={video_model}", f"--output={tmp_path}"
    found = complaint("evaluate", *options)
    assert f"{tmp_path / name.split('/')[0]} exists" in found and "--overwrite" in found
    assert (tmp_path / name).read_bytes() == b"mine"


@pytest.mark.parametrize("fixture", ["evaluated", "compared"])
def test_results_of_an_earlier_evaluation_may_be_replaced(request, fixture):
    folder = request.getfixturevalue(fixture)
    results = sorted(folder.iterdir(), key=lambda path: path.name != "metrics.json")
    assert len(results) > 5
    files.check_outputs(results, overwrite=False)


# Calibration ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrated(model, tmp_path_factory):
    """Directory of the same model, calibrated on the test split."""
    output = tmp_path_factory.mktemp("calibrated") / "model"
    assert not calibrate.main([f"--checkpoint={model}", f"--output={output}", "--crops=64"])
    return output


def test_a_calibrated_model_is_the_same_model_that_knows_how_sure_it_is(model, calibrated):
    (config, variables, step), (same, others, same_step) = map(
        weights.load_model, (model, calibrated)
    )
    jax.tree.map(np.testing.assert_array_equal, variables, others)
    assert step == same_step and len(same.confidence.errors) == 68
    assert dataclasses.replace(same, confidence=config.confidence) == config


def test_an_evaluation_of_a_calibrated_model_measures_its_calibration(calibrated, tmp_path, capsys):
    call("evaluate", f"--checkpoint={calibrated}", f"--output={tmp_path / 'out'}")
    assert 0 <= numbers(tmp_path / "out")["calibration_error"] <= 1
    assert (tmp_path / "out" / "reliability.png").stat().st_size > 5000
    page = Page(tmp_path / "out" / "report.html").check()
    assert "expected calibration error" in page.text
    assert {"Reliability", "Confidence of each landmark"} <= {of["title"] for of in page.charts}
    assert "expected calibration error" in capsys.readouterr().out


def test_a_model_without_calibration_has_no_calibration_error(evaluated):
    assert numbers(evaluated)["calibration_error"] is None
    assert not (evaluated / "reliability.png").exists()
    assert "Reliability" not in Page(evaluated / "report.html").text


def test_a_calibration_never_overwrites_nor_uses_what_was_trained_on(model, calibrated, tmp_path):
    before = sorted(calibrated.rglob("*"))
    with pytest.raises(UserError, match="exists already"):
        calibrate.main([f"--checkpoint={model}", f"--output={calibrated}"])
    assert sorted(calibrated.rglob("*")) == before
    with pytest.raises(UserError, match="train is what the model was trained on"):
        calibrate.main([f"--checkpoint={model}", f"--output={tmp_path / 'x'}", "--split=train"])
    elsewhere = ["--dataset=other", "--split=train"]  # of the same name, but not trained on
    with pytest.raises(UserError, match="no data set 'other'"):
        calibrate.main([f"--checkpoint={model}", f"--output={tmp_path / 'x'}", *elsewhere])
    with pytest.raises(UserError, match="10 faces"):
        calibrate.main([f"--checkpoint={model}", f"--output={tmp_path / 'x'}", "--crops=4"])
    assert not (tmp_path / "x").exists()
