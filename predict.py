"""Draws the landmarks a model finds on a picture or a video, and writes them as numbers.

A picture:

  python predict.py --checkpoint=checkpoints/ibug_300w_small --output=portrait.png \\
      examples/portrait_1.jpg
  python predict.py --checkpoint=runs/small --output=group.png --box=40,30,180,190 \\
      --box=220,41,350,188 group.jpg

Each face needs a box x1,y1,x2,y2 in pixels of the picture. Without --box they are taken from
boxes.json beside the picture, which maps file names to a box or a list of boxes; if that has none,
the whole picture counts as one face; a model trained on pictures that are crops already sees it as
in training. For a model trained on crops around the landmarks, the box is the extent of the
landmarks: from the brows to the chin, and from ear to ear. A picture is turned
upright as its EXIF tag says.

The numbers go beside the drawing, to the same name with .json: for each face its landmarks (x, y)
in pixels of the picture, with pixel centres at whole numbers, their spread, which is large where
the model is in doubt, and how its solver fared.

A video:

  python predict.py --checkpoint=checkpoints/ibug_300w_video --output=out.mp4 \\
      --box=190,85,270,165 clip.mp4
  python predict.py --checkpoint=checkpoints/ibug_300w_video --output=out.mp4 --compare \\
      --boxes=examples/wflw_v/bboxes/intel_head_pose_male.npy \\
      examples/wflw_v/videos/intel_head_pose_male.mp4

One face is followed. --box is its box in the first frame; each later crop is taken around the
landmarks of the frame before. Where the face is lost (it leaves the frame, or what the model sees
is no face), it stays lost, unless --boxes gives its box in every frame, as a face detector writes
them: a NumPy file (T, 4) or wider, x1 y1 x2 y2, NaN in frames without a face. They tell where the
face is to be taken up and when it is gone; but as boxes of detectors jitter, and landmarks with
their crop, crops follow the landmarks still. --crop_at_boxes takes every crop at its box instead.

Recurrence (RwR) holds the landmarks of a frame near those of the frame before, moved with the face:
--penalty says how firmly, and --follow how much of a sudden common motion is believed. --still
finds them in each frame by itself, and --compare shows one beside the other.

The numbers go to the same name with .npz: landmarks (T, K, 2) and spread (T, K) in frame pixels,
box (T, 4) of each crop, NaN in frames without a face, ok (T,), fps and schema; with --compare, the
same of the frames by themselves, named alone_landmarks and so on.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import numpy as np
from absl import app, flags, logging
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from ldeq_jax import checkpoints, inference, report, rwr, tracking, video_report
from ldeq_jax.schema import LandmarkSchema, get_schema

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "A training run's --workdir, whose best model is taken, or a released model.",
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Drawing to write, .png or .jpg, of a video .mp4; the numbers go to the same name with .json, "
    "of a video .npz.",
)
_BOX = flags.DEFINE_multi_string(
    "box",
    [],
    "x1,y1,x2,y2 of a face, pixels of the picture, or of a video's first frame. Repeat it for more "
    "faces of a picture.",
)
_BOXES = flags.DEFINE_string(
    "boxes", None, "Video: .npy file with the face's box in every frame, NaN where there is none."
)
_CROP_AT_BOXES = flags.DEFINE_bool(
    "crop_at_boxes", False, "Video: take each crop at its box in --boxes; do not follow the face."
)
_COMPARE = flags.DEFINE_bool("compare", False, "Video: each frame alone and RwR, side by side.")
_STILL = flags.DEFINE_bool("still", False, "Video: each frame alone, without RwR.")
_STILL_FRAME = flags.DEFINE_integer(
    "still_frame",
    None,
    "Video: number of a frame, from 0, to write as a picture too, to NAME_frame.png.",
    lower_bound=0,
)
_CODEC = flags.DEFINE_enum(
    "codec",
    "vp09",
    ["vp09", "mp4v"],
    "Video: vp09 plays in web browsers, but takes some tenths of a second a frame to write; mp4v "
    "is fast and plays in media players.",
)
_PENALTY = flags.DEFINE_float(
    "penalty",
    None,
    "Video, RwR: weight of the frame before; 0 is none. This and the next three are as the model's "
    "config says if unset.",
    lower_bound=0,
)
_FOLLOW = flags.DEFINE_float(
    "follow",
    None,
    "Video, RwR: share of a sudden motion of the whole face that is believed, above 0, up to 1.",
    upper_bound=1,
)
_BUDGET = flags.DEFINE_integer(
    "budget", None, "Video, RwR: solver steps of a frame, besides one more.", lower_bound=0
)
_ALIGN = flags.DEFINE_enum(
    "align",
    None,
    list(get_args(rwr.Align)),
    "Video, RwR: the frame before is moved with the face, kept in its place in the frame (crop), "
    "or left where it was in the crop.",
)
_WIDTH = 1000  # least length, in pixels, of the longer side of the drawing
_ALONE, _RECURRENT = "each frame alone", "RwR"
_RECURRENCE = [_PENALTY, _FOLLOW, _BUDGET, _ALIGN]
_OF_VIDEOS = [_BOXES, _CROP_AT_BOXES, _COMPARE, _STILL, _STILL_FRAME, _CODEC, *_RECURRENCE]


def main(argv: list[str]) -> None:
    """Predicts; what the user can mend is told in a line."""
    logging.set_verbosity(logging.ERROR)  # orbax tells of every file it reads
    if len(argv) != 2:
        given = f"got {len(argv) - 1}: {' '.join(argv[1:])}"
        raise app.UsageError(f"one picture or video is needed, {given}")
    path, output = Path(argv[1]), Path(_OUTPUT.value)
    try:
        if is_video(path):
            predict_video(path, _CHECKPOINT.value, output)
        elif given := [flag.name for flag in _OF_VIDEOS if flag.present]:
            raise ValueError(f"--{given[0]} is for videos; {path} is none")
        else:
            predict(path, _BOX.value, _CHECKPOINT.value, output)
    except (OSError, ValueError) as error:
        sys.exit(f"predict.py: {error}")
    except KeyboardInterrupt:
        sys.exit("predict.py: interrupted; no unfinished file is left")


def predict(path: Path, texts: list[str], checkpoint: str, output: Path) -> None:
    """Predicts the faces of a picture, draws them and writes the numbers.

    Args:
        path: the picture.
        texts: boxes as given on the command line; may be empty.
        checkpoint: directory of the model.
        output: drawing to write.
    """
    check_output(output, (".png", ".jpg", ".jpeg"), path, "picture")
    picture = read_picture(path)
    given, origin = find_boxes(path, texts, picture)
    whole = np.array([[0, 0, picture.shape[1] - 1, picture.shape[0] - 1]], np.float64)
    boxes = whole if given is None else given
    print(f"{path}: {picture.shape[1]} x {picture.shape[0]} pixels, {len(boxes)} face(s) {origin}")
    config, variables, step = checkpoints.load_model(checkpoint)
    schema = get_schema(config.data.schema)
    # A model trained on pictures that are crops already sees this one as it is.
    uncropped = given is None and config.data.crop == "none"
    faces = inference.Predictor(config, variables).faces(picture, None if uncropped else boxes)
    scale = max(1, -(-_WIDTH // max(picture.shape)))
    report.write_image(output, report.draw_landmarks(picture, faces.landmarks, schema, scale=scale))
    record = {
        "picture": str(path),
        "checkpoint": checkpoint,
        "step": step,
        "schema": schema.name,
        "faces": [face_record(faces, boxes, number) for number in range(len(boxes))],
    }
    for number, face in enumerate(record["faces"], start=1):
        print(
            f"face {number}: mean spread {np.mean(face['spread']):.2f} pixels, residual "
            f"{face['residual']:.1e} after {face['num_steps']} steps"
        )
    numbers = output.with_suffix(".json")
    numbers.write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {output} and {numbers}")


def face_record(faces: inference.Faces, boxes: np.ndarray, number: int) -> dict[str, Any]:
    """What the JSON file says of a face."""
    return {
        "box": boxes[number].tolist(),
        "landmarks": np.round(faces.landmarks[number], 3).tolist(),
        "spread": np.round(faces.spread[number], 3).tolist(),
        "num_steps": int(faces.info.num_steps[number]),
        "residual": float(faces.info.residual[number]),
        "converged": bool(faces.info.converged[number]),
        "diverged": bool(faces.info.diverged[number]),
    }


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a picture, upright.

    Raises:
        ValueError: it is no picture, or is cut short.
    """
    try:
        with Image.open(path) as picture:
            # OpenCV would fill what is cut off with grey and say nothing.
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable picture, or is cut short ({error})") from error


def find_boxes(path: Path, texts: list[str], picture: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Boxes (N, 4) of the faces, None where none are given, and words on where they come from.

    Raises:
        ValueError: a box is not x1,y1,x2,y2, has no area or lies outside the picture; or boxes.json
            cannot be read.
    """
    listing = path.parent / "boxes.json"
    if texts:
        found, origin = [text.split(",") for text in texts], "by --box"
    elif (boxes := read_listing(listing).get(path.name)) is not None:
        several = isinstance(boxes, list) and any(isinstance(box, list) for box in boxes)
        found, origin = boxes if several else [boxes], f"by {listing}"
    else:
        return None, (
            f"as large as the picture, for there is no --box and none in {listing}: a face that "
            "does not fill it is missed"
        )
    return np.array([check_box(box, picture.shape, origin) for box in found]), origin


def check_box(box: Iterable[Any], shape: tuple[int, ...], origin: str) -> np.ndarray:
    """A box (4,) as numbers, after a look whether it lies in a picture of a shape."""
    try:
        x1, y1, x2, y2 = map(float, box)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a box must be x1,y1,x2,y2, not {box} ({origin})") from error
    numbers = np.array([x1, y1, x2, y2])
    if fault := inference.box_fault(numbers, shape):
        raise ValueError(f"the box {x1:g},{y1:g},{x2:g},{y2:g} ({origin}) {fault}")
    return numbers


def read_listing(path: Path) -> dict[str, list]:
    """Boxes by file name; empty when there is no such file."""
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must map file names to boxes ({error}); mend it or use --box"
        ) from error


def is_video(path: Path) -> bool:
    """Whether a file is no picture; it remains to be seen whether it is a video then.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no picture {path}, nor a video of that name")
    try:
        with Image.open(path):
            return False
    except UnidentifiedImageError:
        return True
    except Image.DecompressionBombError:
        return False


def check_output(output: Path, suffixes: tuple[str, ...], source: Path, kind: str) -> None:
    """Refuses a file to write of another kind, or that is the source itself."""
    if output.suffix.lower() not in suffixes:
        raise ValueError(f"--output={output} must end in {' or '.join(suffixes[:2])}")
    if output.exists() and output.samefile(source):
        raise ValueError(f"--output={output} is the {kind} itself: choose another name")


def predict_video(path: Path, checkpoint: str, output: Path) -> None:
    """Follows the face of a video, draws it and writes the numbers, as the flags say.

    Args:
        path: the video.
        checkpoint: directory of the model.
        output: video to write.
    """
    check_output(output, (".mp4",), path, "video")
    if _STILL.value and (_COMPARE.value or any(flag.present for flag in _RECURRENCE)):
        raise ValueError("--still is without RwR: leave it out, or --compare and RwR's flags")
    chosen = {flag.name: flag.value for flag in _RECURRENCE if flag.value is not None}
    rwr.RwRConfig(**chosen)  # what cannot be is told before anything is written
    output.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(output.parent, os.W_OK):
        raise PermissionError(f"cannot write to the folder {output.parent}")
    clip = tracking.Clip.open(path)
    if clip.length < clip.announced:
        print(f"{path}: only {clip.length} of {clip.announced} frames can be decoded")
    if _STILL_FRAME.value is not None and _STILL_FRAME.value >= clip.length:
        raise ValueError(f"--still_frame={_STILL_FRAME.value}: {path} has {clip.length} frames")
    boxes = read_boxes(clip)
    config, variables, step = checkpoints.load_model(checkpoint)
    recurrence = dataclasses.replace(config.rwr, **chosen)
    if recurrence.budget > config.model.forward.max_steps:
        raise ValueError(f"--budget can be at most {config.model.forward.max_steps}, as trained")
    print(
        f"{path}: {clip.length} frames of {clip.width} x {clip.height} pixels, {clip.fps:g} a "
        f"second; model of step {step}"
    )
    variables = inference.on_device(variables)  # one copy for all trackers
    methods = {_ALONE: None} if _STILL.value or _COMPARE.value else {}
    methods |= {} if _STILL.value else {_RECURRENT: recurrence}
    at_boxes = _CROP_AT_BOXES.value
    trackers = {
        name: tracking.FaceTracker(config, variables, method, crop_at_boxes=at_boxes)
        for name, method in methods.items()
    }
    frames = tqdm(clip.frames(), total=clip.length, unit="frame", desc="following", leave=False)
    tracks = tracking.follow(trackers, frames, boxes)
    warn_of_losses(tracks, found_again=_BOXES.value is not None)
    write(output, clip, tracks, get_schema(config.data.schema))
    print("\n" + summary(tracks), end="")


def read_boxes(clip: tracking.Clip) -> list[np.ndarray | None]:
    """The face's box in every frame by the flags, None where they say nothing.

    Raises:
        ValueError: there is none, or one is not in its frame, or they are of another video.
    """
    if (_BOXES.value is None) == (not _BOX.value) or len(_BOX.value) > 1:
        raise ValueError(
            "a video needs --box=x1,y1,x2,y2 of one face in its first frame, or --boxes with its "
            "box in every frame"
        )
    if _BOXES.value is None:
        if _CROP_AT_BOXES.value:
            raise ValueError("--crop_at_boxes needs --boxes, the face's box in every frame")
        first = check_box(_BOX.value[0].split(","), (clip.height, clip.width), "by --box")
        return [first, *[None] * (clip.length - 1)]
    try:
        boxes = np.load(_BOXES.value, allow_pickle=False).astype(np.float64)
    except (ValueError, EOFError, TypeError, AttributeError) as error:
        raise ValueError(f"{_BOXES.value} is no .npy file of numbers ({error})") from error
    if boxes.ndim != 2 or boxes.shape[1] < 4 or len(boxes) != clip.length:
        raise ValueError(
            f"{_BOXES.value} must hold x1 y1 x2 y2 in {clip.length} rows, one for each frame of "
            f"{clip.path}; it holds an array of {boxes.shape}"
        )
    for t, box in enumerate(boxes[:, :4]):
        if np.isfinite(box).all():
            check_box(box, (clip.height, clip.width), f"row {t} of {_BOXES.value}, counted from 0")
    return list(boxes[:, :4])


def warn_of_losses(tracks: dict[str, tracking.FaceTrack], found_again: bool) -> None:
    """Tells where each method loses the face first.

    Raises:
        ValueError: one never has it.
    """
    for name, track in tracks.items():
        if not track.ok.any():
            raise ValueError(f"no face was found ({name}): in frame 0, {track.trouble[0]}")
        for t in track.losses[:1]:
            advice = (
                "it is taken up again at its next box"
                if found_again
                else "give its box in every frame, --boxes, to have it taken up again"
            )
            print(f"frame {t}: {name} has lost the face: {track.trouble[t]}; {advice}")


def write(
    output: Path, clip: tracking.Clip, tracks: dict[str, tracking.FaceTrack], schema: LandmarkSchema
) -> None:
    """Writes the drawn video, its still if wanted, and the numbers."""
    landmarks = {name: track.landmarks for name, track in tracks.items()}
    margin = 0.4 if _COMPARE.value else None
    frames = tqdm(clip.frames(), total=clip.length, unit="frame", desc="drawing", leave=False)
    video_report.write_overlay(
        output, frames, landmarks, schema, clip.fps, margin=margin, codec=_CODEC.value
    )
    written = [output]
    if _STILL_FRAME.value is not None:
        written.append(output.with_name(f"{output.stem}_frame.png"))
        video_report.write_still(
            written[-1], clip.frames(), landmarks, schema, _STILL_FRAME.value, margin=margin
        )
    written.append(output.with_suffix(".npz"))
    arrays = {"fps": np.float32(clip.fps), "schema": np.array(schema.name)}
    for name, track in tracks.items():
        prefix = "alone_" if name == _ALONE and len(tracks) > 1 else ""
        arrays |= {
            prefix + "landmarks": track.landmarks,
            prefix + "spread": track.spread,
            prefix + "box": track.box,
            prefix + "ok": track.ok,
        }
    partial = output.with_suffix(".partial.npz")
    try:
        np.savez_compressed(partial, **arrays)
        partial.replace(written[-1])
    finally:
        partial.unlink(missing_ok=True)
    print(f"wrote {', '.join(map(str, written))}")


def summary(tracks: dict[str, tracking.FaceTrack]) -> str:
    """What was found, as a table."""
    # Methods are held against each other where all of them have the face.
    common = np.all([track.ok for track in tracks.values()], axis=0)
    return report.markdown_table(
        {
            "method": name,
            "frames with the face": f"{track.ok.sum()} of {len(track.ok)}",
            "mean spread (pixels)": float(np.mean(track.spread[track.ok])),
            "movement (% of face size)": 100
            * tracking.movement(np.where(common[:, None, None], track.landmarks, np.nan)),
            "frames a second": f"{1 / np.median(track.seconds[track.ok]):.1f}",
        }
        for name, track in tracks.items()
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["checkpoint", "output"])
    app.run(main)
