"""Draws the landmarks a model finds on a picture or a video, and writes them as numbers.

A picture:

  python predict.py --checkpoint=faces-68-stills --output=portrait.png \\
      examples/portrait_1.jpg
  python predict.py --checkpoint=runs/small --output=group.png --box=40,30,180,190 \\
      --box=220,41,350,188 group.jpg

Each face needs a box x1,y1,x2,y2 in pixels of the picture. Without --box they are taken from
boxes.json beside the picture, which maps file names to a box or a list of boxes; if that has none,
the whole picture counts as one face; a model trained on pictures that are crops already sees it as
in training. For a model trained on crops around the landmarks, the box is the extent of the
landmarks: from the brows to the chin, and from ear to ear. A picture is turned upright as its EXIF
tag says. It may be of any format that Pillow reads, with 8 bits a colour or 16; transparency is
left out, and of several pages the first counts. What a file is, its content says, not its name.

The numbers go beside the drawing, to the same name with .json: for each face its landmarks (x, y)
in pixels of the picture, with pixel centres at whole numbers, their spread, which is large where
the model is in doubt, and how its solver fared. A command can be given again: it replaces what it
wrote before. Other files are replaced with --overwrite only.

A video:

  python predict.py --checkpoint=faces-68 --output=out.mp4 \\
      --box=190,85,270,165 clip.mp4
  python predict.py --checkpoint=faces-68 --output=out.mp4 --compare \\
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

The numbers go to the same name with .npz, before anything is drawn: landmarks (T, K, 2) and spread
(T, K) in frame pixels, box (T, 4) of each crop, NaN in frames without a face, ok (T,), time (T,) of
each frame in seconds, fps by the video's header, and schema; with --compare, the same of the frames
by themselves, named alone_landmarks and so on.

A frame that cannot be decoded is one without a face, and the video goes on after it. Frames whose
pixels are not square are enlarged first, and boxes have to be of the enlarged frames. The drawn
video has a constant frame rate and keeps the times: frames are repeated or left out for that.

Exit codes: 0 all is written, 1 something is not (a line says what, Ctrl-C included), 143 stopped by
SIGTERM.
"""

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from absl import app, flags, logging
from tqdm import tqdm

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import cv2

from ldeq_jax import hosts, weights
from ldeq_jax.cli.flags import define_path
from ldeq_jax.face.boxes import box_fault
from ldeq_jax.face.schema import LandmarkSchema, get_schema
from ldeq_jax.inference import pictures as inference
from ldeq_jax.inference import tracker as tracking
from ldeq_jax.media import files, pictures
from ldeq_jax.media.video import VideoReader
from ldeq_jax.model import rwr
from ldeq_jax.report import overlay as video_report
from ldeq_jax.report import records, tables
from ldeq_jax.report.draw import draw_landmarks

_CHECKPOINT = define_path(
    "checkpoint",
    None,
    "A training run's --workdir, whose best model is taken, or a released model.",
)
_OUTPUT = define_path(
    "output",
    None,
    "Drawing to write, .png or .jpg, of a video .mp4; the numbers go to the same name with .json, "
    "of a video .npz.",
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Replace --output and the files beside it even if they are not of an earlier call.",
)
_BOX = flags.DEFINE_multi_string(
    "box",
    [],
    "x1,y1,x2,y2 of a face, pixels of the picture, or of a video's first frame. Repeat it for more "
    "faces of a picture.",
)
_BOXES = define_path(
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
_SMALLEST = 8  # pixels of a picture's shorter side
_WIDTH = 1000  # least length, in pixels, of the longer side of the drawing
_ALONE, _RECURRENT = "each frame alone", "RwR"
_RECURRENCE = [_PENALTY, _FOLLOW, _BUDGET, _ALIGN]
_OF_VIDEOS = [_BOXES, _CROP_AT_BOXES, _COMPARE, _STILL, _STILL_FRAME, _CODEC, *_RECURRENCE]


@hosts.exit_on_sigterm()
def main(argv: list[str]) -> None:
    """Predicts; faults that the user can fix are printed as one line."""
    logging.set_verbosity(logging.ERROR)  # orbax tells of every file it reads
    if len(argv) != 2:
        given = f"got {len(argv) - 1}: {' '.join(argv[1:])}"
        raise app.UsageError(f"one picture or video is needed, {given}")
    sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be UTF-8
    try:
        path, output = files.expand(argv[1]), Path(_OUTPUT.value)
        kind = pictures.kind_of(path)
        if kind == "audio":
            raise ValueError(f"{path} is sound without a video (a cover picture does not count)")
        if kind == "animation" and output.suffix.lower() != ".mp4":
            raise ValueError(
                f"--output={output} must end in .mp4: {path} is an animation, read as a video"
            )
        if kind != "picture":
            predict_video(path, kind, _CHECKPOINT.value, output)
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
    numbers = output.with_suffix(".json")
    if numbers.name.lower() == "boxes.json":
        raise ValueError(
            f"--output={output} would write boxes.json, a name for boxes that you give: choose "
            "another name"
        )
    written = [numbers, output]
    files.check_outputs(written, _OVERWRITE.value)
    picture = pictures.read_picture(path)
    if (pages := pictures.count_pages(path)) > 1:
        print(f"{path}: the first of {pages} pages is read")
    if min(picture.shape[:2]) < _SMALLEST:
        raise ValueError(
            f"{path} is {picture.shape[1]} x {picture.shape[0]} pixels: too small to show a face"
        )
    given, origin = find_boxes(path, texts, picture)
    whole = np.array([[0, 0, picture.shape[1] - 1, picture.shape[0] - 1]], np.float64)
    boxes = whole if given is None else given
    print(f"{path}: {picture.shape[1]} x {picture.shape[0]} pixels, {len(boxes)} face(s) {origin}")
    config, variables, step = weights.load_model(checkpoint)
    schema = get_schema(config.data.schema)
    # A model trained on pictures that are crops already sees this one as it is.
    uncropped = given is None and config.data.crop == "none"
    faces = inference.Predictor(config, variables).faces(picture, None if uncropped else boxes)
    record = {
        "picture": str(path),
        "checkpoint": checkpoint,
        "step": step,
        "schema": schema.name,
        files.RECORD: [file.name for file in written],
        "faces": [face_record(faces, boxes, number) for number in range(len(boxes))],
    }
    for number, face in enumerate(record["faces"], start=1):
        print(
            f"face {number}: mean spread {np.mean(face['spread']):.2f} pixels, residual "
            f"{face['residual']:.1e} after {face['num_steps']} steps"
        )
    # The numbers are worth more than the drawing, which a full disk may prevent.
    files.write_whole(numbers, (records.to_json(record, indent=1) + "\n").encode())
    print(f"wrote {numbers}")
    scale = max(1, -(-_WIDTH // max(picture.shape)))
    drawing = draw_landmarks(picture, faces.landmarks, schema, scale=scale)
    pictures.write_picture(output, drawing)
    print(f"wrote {output}")


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


def find_boxes(path: Path, texts: list[str], picture: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Boxes (N, 4) of the faces, None where none are given, and words on where they come from.

    Raises:
        ValueError: a box is not x1,y1,x2,y2, has no area or lies outside the picture; or boxes.json
            cannot be read.
    """
    listing = path.parent / "boxes.json"
    if texts:
        found, origin = texts, "by --box"
    elif (boxes := files.entry_of(read_listing(listing), path.name)) is not None:
        print(f"no --box: taking that of {path.name} in {listing}, {boxes}")
        several = isinstance(boxes, list) and any(isinstance(box, list) for box in boxes)
        found, origin = boxes if several else [boxes], f"by {listing}"
    else:
        return None, (
            f"as large as the picture, for there is no --box and none in {listing}: a face that "
            "does not fill it is missed"
        )
    return np.array([check_box(box, picture.shape, origin) for box in found]), origin


def check_box(box: str | Iterable[Any], shape: tuple[int, ...], origin: str) -> np.ndarray:
    """A box (4,) as numbers, after checking it against a picture of a shape.

    Args:
        box: x1, y1, x2, y2 and what else a detector says; or text of them with commas.
        shape: of the picture, height and width first.
        origin: words on where it comes from.
    """
    try:
        x1, y1, x2, y2, *_ = map(float, box.split(",") if isinstance(box, str) else box)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a box must be x1,y1,x2,y2, not {box!r} ({origin})") from error
    numbers = np.array([x1, y1, x2, y2])
    if fault := box_fault(numbers, shape):
        raise ValueError(f"the box {x1:g},{y1:g},{x2:g},{y2:g} ({origin}) {fault}")
    return numbers


def read_listing(path: Path) -> dict[str, list]:
    """Boxes by file name; empty when there is no such file."""
    if not path.exists():
        return {}
    try:
        entries = json.loads(files.read_text(path))
        if not isinstance(entries, dict):
            raise ValueError(f"it holds a {type(entries).__name__}")
    except ValueError as error:
        raise ValueError(
            f"{path} must map file names to boxes ({error}); correct it, or use --box"
        ) from error
    return entries


def check_output(output: Path, suffixes: tuple[str, ...], source: Path, kind: str) -> None:
    """Refuses a file to write of another kind, or that is the source itself."""
    if output.suffix.lower() not in suffixes:
        endings = " or ".join(suffixes[:2])
        raise ValueError(f"--output={output} must end in {endings}, as {source} is a {kind}")
    if output.exists() and output.samefile(source):
        raise ValueError(f"--output={output} is the {kind} itself: choose another name")


def predict_video(path: Path, kind: str, checkpoint: str, output: Path) -> None:
    """Follows the face of a video, writes the numbers and draws it, as the flags say.

    Args:
        path: the video.
        kind: "video", or "animation" for an animated picture.
        checkpoint: directory of the model.
        output: video to write.

    Raises:
        OSError: a file cannot be read or written. The numbers are there all the same if it is the
            drawn video or the still.
        ValueError: the flags make no sense together or for this video, or it cannot be decoded.
    """
    check_output(output, (".mp4",), path, "video")
    if _STILL.value and (_COMPARE.value or any(flag.present for flag in _RECURRENCE)):
        raise ValueError("--still is without RwR: leave it out, or --compare and RwR's flags")
    chosen = {flag.name: flag.value for flag in _RECURRENCE if flag.value is not None}
    rwr.RwRConfig(**chosen)  # what cannot be is told before anything is written
    outputs = outputs_of(output)
    everything = [*outputs[:2], still_of(output)]
    files.check_outputs(everything, _OVERWRITE.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(output.parent, os.W_OK):
        raise PermissionError(f"cannot write to the folder {output.parent}")
    animation = functools.partial(pictures.animation_frames, path)
    reader = VideoReader(animation if kind == "animation" else path, name=str(path))
    boxes = read_boxes(reader)
    config, variables, step = weights.load_model(checkpoint)
    recurrence = dataclasses.replace(config.rwr, **chosen)
    if recurrence.budget > config.model.forward.max_steps:
        raise ValueError(f"--budget can be at most {config.model.forward.max_steps}, as trained")
    print(
        f"{path}: frames of {reader.width} x {reader.height} pixels, {reader.fps:g} a second; "
        f"model of step {step}"
    )
    if reader.aspect != 1:
        print(
            f"its pixels are not square ({reader.aspect:.4g} : 1): frames are enlarged until they "
            "are, and landmarks and boxes are in pixels of the enlarged frames"
        )
    variables = inference.on_device(variables)  # one copy for all trackers
    methods = {_ALONE: None} if _STILL.value or _COMPARE.value else {}
    methods |= {} if _STILL.value else {_RECURRENT: recurrence}
    at_boxes = _CROP_AT_BOXES.value
    trackers = {
        name: tracking.FaceTracker(config, variables, method, crop_at_boxes=at_boxes)
        for name, method in methods.items()
    }
    times: list[float] = []
    tracks = tracking.follow(trackers, *in_step(reader, boxes, times))
    warn_of_losses(tracks, found_again=_BOXES.value is not None)
    failed = write(outputs, reader, np.array(times), tracks, get_schema(config.data.schema))
    print("\n" + summary(tracks), end="")
    if failed:
        raise OSError("; ".join(failed))


def outputs_of(output: Path) -> list[Path]:
    """What is written with a drawn video: the numbers, itself, and the still if wanted."""
    still = [] if _STILL_FRAME.value is None else [still_of(output)]
    return [output.with_suffix(".npz"), output, *still]


def still_of(output: Path) -> Path:
    """The picture of one frame that goes with a drawn video."""
    return output.with_name(f"{output.stem}_frame.png")


def in_step(
    reader: VideoReader, boxes: np.ndarray | list[np.ndarray], times: list[float]
) -> tuple[Iterator[np.ndarray | None], Iterator[np.ndarray | None]]:
    """Images of a video, under a progress bar, and the box of each, to be asked for in turn.

    Args:
        reader: the video.
        boxes: as `read_boxes` returns them.
        times: is filled with the times of the frames.
    """
    ended = False

    def images():
        nonlocal ended
        total, missing = reader.header_frames or None, 0
        frames = tqdm(reader.frames(), total=total, unit="frame", desc="following", leave=False)
        for image, time in frames:
            times.append(time)
            missing += image is None
            yield image
        ended = True
        if reader.listed_frames > len(times):
            print(
                f"{reader.name}: its header lists {reader.listed_frames} frames, of which "
                f"{len(times)} could be read: it may be cut short"
            )
        if missing:
            print(
                f"{reader.name}: {missing} of {len(times)} frames cannot be decoded and count as "
                "frames without a face"
            )

    def first_box():
        yield boxes
        while not ended:
            yield None

    return images(), iter(boxes) if isinstance(boxes, list) else first_box()


def read_boxes(reader: VideoReader) -> np.ndarray | list[np.ndarray]:
    """The face's boxes by the flags: of the first frame (4,), or a list of one for every frame.

    With --boxes or --still_frame, it decodes the video to learn how many frames there are.

    Raises:
        ValueError: there is none, or one is not in its frame, or they are of another video.
    """
    if (_BOXES.value is None) == (not _BOX.value) or len(_BOX.value) > 1:
        raise ValueError(
            "a video needs --box=x1,y1,x2,y2 of one face in its first frame, or --boxes with its "
            "box in every frame"
        )
    shape, length = (reader.height, reader.width), 0
    if _BOXES.value is not None or _STILL_FRAME.value is not None:
        length = len(reader.times()[0])
    if _STILL_FRAME.value is not None and _STILL_FRAME.value >= length:
        raise ValueError(f"--still_frame={_STILL_FRAME.value}: {reader.name} has {length} frames")
    if _BOXES.value is None:
        if _CROP_AT_BOXES.value:
            raise ValueError("--crop_at_boxes needs --boxes, the face's box in every frame")
        return check_box(_BOX.value[0], shape, "by --box")
    try:
        boxes = np.load(_BOXES.value, allow_pickle=False).astype(np.float64)
    except (ValueError, EOFError, TypeError, AttributeError) as error:
        raise ValueError(f"{_BOXES.value} is no .npy file of numbers ({error})") from error
    if boxes.ndim != 2 or boxes.shape[1] < 4 or len(boxes) != length:
        raise ValueError(
            f"{_BOXES.value} must hold x1 y1 x2 y2 in {length} rows, one for each frame of "
            f"{reader.name}; it holds an array of {boxes.shape}"
        )
    for t, box in enumerate(boxes[:, :4]):
        if np.isfinite(box).all():
            check_box(box, shape, f"row {t} of {_BOXES.value}, counted from 0")
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
    outputs: list[Path],
    reader: VideoReader,
    times: np.ndarray,
    tracks: dict[str, tracking.FaceTrack],
    schema: LandmarkSchema,
) -> list[str]:
    """Writes the numbers, then the drawn video and the still if wanted.

    Args:
        outputs: as `outputs_of` gives them.
        reader: the video.
        times: (T,) seconds of its frames.
        tracks: by the method.
        schema: of the landmarks.

    Returns:
        What of the pictures could not be written, and why.
    """
    arrays = {"time": times, "fps": np.float32(reader.fps), "schema": np.array(schema.name)}
    # The still is recorded even if not drawn now: one of an earlier call remains replaceable.
    arrays[files.RECORD] = np.array([path.name for path in (*outputs[:2], still_of(outputs[1]))])
    for name, track in tracks.items():
        prefix = "alone_" if name == _ALONE and len(tracks) > 1 else ""
        arrays |= {
            prefix + "landmarks": track.landmarks,
            prefix + "spread": track.spread,
            prefix + "box": track.box,
            prefix + "ok": track.ok,
        }
    numbers, *drawings = outputs
    with files.replacing(numbers) as partial:
        np.savez_compressed(partial, **arrays)
    written, failed = [numbers], []
    landmarks = {name: track.landmarks for name, track in tracks.items()}
    margin = 0.4 if _COMPARE.value else None

    def images(**progress):
        return (frame.image for frame in tqdm(reader.frames(), **progress, leave=False))

    def draw_still(path):
        index = _STILL_FRAME.value
        frames = images(disable=True)
        video_report.write_still(path, frames, landmarks, schema, index, margin=margin)

    def draw_video(path):
        frames = images(total=len(times), unit="frame", desc="drawing")
        options = {"times": times, "margin": margin, "codec": _CODEC.value}
        video_report.write_overlay(path, frames, landmarks, schema, reader.fps, **options)

    for path, draw in zip(drawings, (draw_video, draw_still), strict=False):
        try:
            draw(path)
            written.append(path)
        except (OSError, ValueError, cv2.error) as error:  # the numbers matter more
            failed.append(f"{path} is not written: {error}")
    print(f"wrote {', '.join(map(str, written))}")
    return failed


def summary(tracks: dict[str, tracking.FaceTrack]) -> str:
    """What was found, as a table."""
    # Methods are held against each other where all of them have the face.
    common = np.all([track.ok for track in tracks.values()], axis=0)
    return tables.markdown_table(
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
