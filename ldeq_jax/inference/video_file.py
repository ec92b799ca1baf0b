"""A video file: its face is followed, written as numbers and drawn: `predict_video`.

The file is decoded once: frames are drawn as they are predicted. Only where all landmarks must be
known before the first frame is drawn (two methods side by side, in a window around the face), or
all times (no constant rate), is it decoded a second time. No more than a few frames are held.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ldeq_jax.errors import UserError, UserWriteError
from ldeq_jax.face.crops import Crop
from ldeq_jax.face.schema import LandmarkSchema, get_schema
from ldeq_jax.inference.boxes import parse_box, read_track, wrong_length
from ldeq_jax.inference.detection import SURE_SCORE, Detector, YuNet, boxes_for
from ldeq_jax.inference.drawing import Drawing
from ldeq_jax.inference.follower import Follower
from ldeq_jax.inference.picture_file import check_output
from ldeq_jax.inference.pictures import on_device
from ldeq_jax.inference.tracks import Recorder, Track, movement
from ldeq_jax.media import files, pictures
from ldeq_jax.media.video import Frame, VideoReader
from ldeq_jax.model.rwr import RwRConfig
from ldeq_jax.report import tables
from ldeq_jax.weights import load_model

ALONE, RECURRENT = "each frame alone", "RwR"
_MARGIN = 0.4  # of the window around the face, where two methods are shown


def predict_video(
    path: Path,
    output: Path,
    *,
    checkpoint: str,
    animation: bool = False,
    box: str | None = None,
    boxes: Path | None = None,
    crop_at_boxes: bool = False,
    still: bool = False,
    compare: bool = False,
    recurrence: Mapping[str, Any] | None = None,
    still_frame: int | None = None,
    codec: str = "vp09",
    overwrite: bool = False,
) -> dict[str, Track]:
    """Follows the face of a video, writes the numbers and draws it.

    Prints what is read, found and written.

    Args:
        path: the video.
        output: video to write, .mp4; the numbers go to the same name with .npz.
        checkpoint: name or folder of the model.
        animation: whether the file is an animated picture.
        box: of the face in the first frame, as text "x1,y1,x2,y2".
        boxes: .npy file with the face's box in every frame, see `boxes.read_track`. With neither,
            the largest face is followed in the first frame where one is detected.
        crop_at_boxes: take each crop at its box in ``boxes``; do not follow the face.
        still: solve each frame alone, without RwR.
        compare: each frame alone and RwR, side by side.
        recurrence: fields of `RwRConfig` that replace those of the model's config; one in seconds
            also replaces the one per frame.
        still_frame: number of a frame, from 0, that is written as a picture too.
        codec: "vp09" or "mp4v", see `media.writer.open_writer`.
        overwrite: replace files that no earlier call wrote.

    Returns:
        The track of each method, `ALONE` or `RECURRENT`.

    Raises:
        UserError: the options make no sense together or for this video, it cannot be decoded, or a
            file cannot be written. The numbers are there all the same if it is a drawing.
    """
    check_output(output, (".mp4",), path, "video")
    chosen = dict(recurrence or {})
    if still and (compare or chosen):
        raise UserError(
            "--still solves frames without RwR: leave it out, or else --compare and RwR's options"
        )
    changed(RwRConfig(), chosen)  # what cannot be is reported before anything is written
    outputs = [output.with_suffix(".npz"), output, output.with_name(f"{output.stem}_frame.png")]
    files.check_outputs(outputs, overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(output.parent, os.W_OK):
        raise UserWriteError(f"cannot write to the folder {output.parent}")
    source = functools.partial(pictures.animation_frames, path) if animation else path
    reader = VideoReader(source, name=str(path))
    if still_frame is not None and still_frame >= reader.header_frames:
        count = len(reader.times()[0])  # headers can be wrong
        if still_frame >= count:
            raise UserError(f"--still_frame={still_frame}: {path} has {count} frames")
    in_frames = read_boxes(reader, box, boxes, crop_at_boxes=crop_at_boxes)
    config, variables, step = load_model(checkpoint)
    if in_frames is None and config.data.crop == "none":
        raise UserError(
            f"{checkpoint} is trained on pictures that are crops already: a video needs "
            "--box=x1,y1,x2,y2 of the face in its first frame, or --boxes"
        )
    settings = changed(config.rwr, chosen)
    if settings.budget > config.model.forward.max_steps:
        raise UserError(f"--budget can be at most {config.model.forward.max_steps}, as trained")
    print_video(reader, step)
    variables = on_device(variables)  # one copy for all trackers
    methods: dict[str, RwRConfig | None] = {ALONE: None} if still or compare else {}
    if not still:
        methods[RECURRENT] = settings
    trackers = {
        name: Follower(config, variables, method, crop_at_boxes=crop_at_boxes)
        for name, method in methods.items()
    }
    schema = get_schema(config.data.schema)
    recorder, times, detected, found = Recorder(trackers), [], "", None
    picture = None if still_frame is None else (outputs[2], still_frame)
    drawing = Drawing(output, reader, schema, codec=codec, at_end=compare, still=picture)
    with drawing:
        detector = YuNet() if in_frames is None else None
        for frame, at in zip(watch(reader), boxes_in_step(in_frames, boxes, reader), strict=False):
            times.append(frame.time)
            if detector is not None and frame.image is not None:
                at = found = largest_face(detector, frame.image, config.data.crop)
            faces = recorder.add(frame.image, at, frame.time)
            if detector is not None and all(face.ok for face in faces.values()):
                detected = f"frame {len(times) - 1}, box {np.round(np.asarray(found), 1).tolist()}"
                detector = None
            drawing.add(frame, {name: face.points for name, face in faces.items()})
        if boxes is not None and in_frames is not None and len(times) < len(in_frames):
            raise wrong_length(boxes, in_frames.shape, len(times), reader.name)
        if detected:
            print(f"the face that is followed is the largest of those detected in {detected}")
        elif in_frames is None:
            raise UserError(
                f"{reader.name}: no face is detected in any of its {len(times)} frames; give the "
                "box of one in the first frame, --box=x1,y1,x2,y2"
            )
        tracks = recorder.tracks()
        print_losses(tracks, found_again=boxes is not None)
        write_numbers(outputs, reader, np.array(times), tracks, schema)
        points = {name: track.landmarks.points for name, track in tracks.items()}
        drawing.finish(times, points, _MARGIN if compare else None)
    print(f"wrote {', '.join(map(str, [outputs[0], *drawing.written]))}")
    print("\n" + summary(tracks), end="")
    if drawing.failed:
        raise UserWriteError("; ".join(drawing.failed))
    return tracks


def changed(config: RwRConfig, fields: Mapping[str, Any]) -> RwRConfig:
    """A config with other values for some fields; a time constant also unsets what it stands for.

    Raises:
        UserError: a value is out of its range.
    """
    per_frame = {"hold_seconds": "penalty", "follow_seconds": "follow"}
    unset = {per_frame[name]: None for name in fields if name in per_frame}
    try:
        return dataclasses.replace(config, **unset | dict(fields))
    except ValueError as error:
        raise UserError(str(error)) from error


def print_video(reader: VideoReader, step: int) -> None:
    """Prints what kind of video is read, and the step of the model."""
    print(
        f"{reader.name}: frames of {reader.width} x {reader.height} pixels, {reader.fps:g} per "
        f"second; model of step {step}"
    )
    if reader.aspect != 1:
        print(
            f"its pixels are not square ({reader.aspect:.4g} : 1): frames are enlarged until they "
            "are, and landmarks and boxes are in pixels of the enlarged frames"
        )


def watch(reader: VideoReader) -> Iterator[Frame]:
    """The frames of a video under a progress bar; at the end, prints what is missing of it."""
    count = missing = 0
    bar = {"total": reader.header_frames or None, "unit": "frame", "desc": "predicting"}
    for frame in tqdm(reader.frames(), **bar, leave=False):
        count += 1
        missing += frame.image is None
        yield frame
    if short := cut_short(reader, count):
        print(short)
    if missing:
        print(
            f"{reader.name}: {missing} of {count} frames cannot be decoded and count as "
            "frames without a face"
        )


def cut_short(reader: VideoReader, count: int) -> str:
    """Says that a video that was read to its end has fewer frames than its header lists, or ""."""
    if reader.listed_frames <= count:
        return ""
    return (
        f"{reader.name}: its header lists {reader.listed_frames} frames, of which {count} could be "
        "read: it may be cut short"
    )


def read_boxes(
    reader: VideoReader, box: str | None, boxes: Path | None, *, crop_at_boxes: bool
) -> np.ndarray | None:
    """The face's boxes: (1, 4) of the first frame, or (T, 4) of all frames; None if not given.

    Raises:
        UserError: one is not in its frame, or they are of another video, or make no sense.
    """
    if boxes is not None and box is not None:
        raise UserError("give --box or --boxes, not both")
    if boxes is not None:
        return read_track(boxes, reader)
    if crop_at_boxes:
        raise UserError("--crop_at_boxes needs --boxes, the face's box in every frame")
    if box is None:
        return None
    return parse_box(box, (reader.height, reader.width), "by --box")[None]


def largest_face(detector: Detector, image: np.ndarray, crop: Crop) -> np.ndarray | None:
    """The box (4,) of the largest face that is detected in a frame, None if there is none."""
    found = detector(image).above(SURE_SCORE)
    return boxes_for(found, crop)[0] if len(found.scores) else None


def boxes_in_step(
    boxes: np.ndarray | None, file: Path | None, reader: VideoReader
) -> Iterator[np.ndarray | None]:
    """The box of each frame: None after the first where only that is given, or where none is.

    Raises:
        UserError: there are more frames than boxes in the file.
    """
    yield from () if boxes is None else boxes
    while boxes is None or file is None:
        yield None
    raise wrong_length(file, boxes.shape, len(reader.times()[0]), reader.name)


def print_losses(tracks: Mapping[str, Track], found_again: bool) -> None:
    """Prints where each method loses the face first.

    Raises:
        UserError: one never has it.
    """
    for name, track in tracks.items():
        if not track.landmarks.ok.any():
            raise UserError(f"no face was found ({name}): in frame 0, {track.trouble[0]}")
        for t in track.losses[:1]:
            advice = (
                "it is found again at its next box"
                if found_again
                else "ldeq track finds faces again, and so does --boxes, its box in every frame"
            )
            print(f"frame {t}: {name} has lost the face: {track.trouble[t]}; {advice}")


def write_numbers(
    outputs: Iterable[Path],
    reader: VideoReader,
    times: np.ndarray,
    tracks: Mapping[str, Track],
    schema: LandmarkSchema,
) -> None:
    """Writes the .npz file.

    Args:
        outputs: all files of the video, this one first. Those that are not written now are listed
            too, so that those of an earlier call remain replaceable.
        reader: the video.
        times: (T,) seconds of its frames.
        tracks: by the method.
        schema: of the landmarks.
    """
    numbers, *_ = outputs
    arrays: dict[str, Any] = {
        "time": times,
        "fps": np.float32(reader.fps),
        "schema": np.array(schema.name),
    }
    arrays[files.RECORD] = np.array([path.name for path in outputs])
    for name, track in tracks.items():
        prefix = "alone_" if name == ALONE and len(tracks) > 1 else ""
        arrays |= {
            prefix + "landmarks": track.landmarks.points,
            prefix + "spread": track.landmarks.spread,
            prefix + "box": track.landmarks.box,
            prefix + "ok": track.landmarks.ok,
        }
        for field in ("confidence", "probability", "deviation"):
            if (value := getattr(track.landmarks, field)) is not None:
                arrays[prefix + field] = value
    with files.replacing(numbers) as partial:
        np.savez_compressed(partial, **arrays)


def summary(tracks: Mapping[str, Track]) -> str:
    """What was found, as a Markdown table."""
    found = {name: track.landmarks for name, track in tracks.items()}
    # Methods are compared where all of them have the face.
    common = np.all([landmarks.ok for landmarks in found.values()], axis=0)[:, None, None]
    return tables.markdown_table(
        {
            "method": name,
            "frames with the face": f"{landmarks.ok.sum()} of {len(landmarks)}",
            "mean spread (pixels)": float(np.mean(landmarks.spread[landmarks.ok])),
            "movement (% of face size)": 100 * movement(np.where(common, landmarks.points, np.nan)),
            "frames per second": f"{1 / np.median(tracks[name].seconds[landmarks.ok]):.1f}",
        }
        for name, landmarks in found.items()
    )
