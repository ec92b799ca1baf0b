"""What a person is shown of a window: which frames, where, and where the members disagree."""

import dataclasses

import cv2
import numpy as np
import pytest
from test_label import shape

from ldeq_jax.errors import UserError
from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.labelling.labels import Labelled
from ldeq_jax.labelling.review_pictures import DOUBT, Shown, review_pictures
from ldeq_jax.labelling.windows import Window
from ldeq_jax.media.video import VideoReader
from ldeq_jax.media.writer import write_video

COUNT, WORST, TILE = 45, 17, 240
DOUBTFUL = 30  # a landmark


def shown(count=COUNT, **fields):
    """A face of 40 pixels that walks from left to right; one landmark is doubtful in one frame."""
    steps = np.stack([40 + np.arange(count), np.full(count, 60)], axis=1)
    points = 20.0 * shape() + steps[:, None]
    disagreement = np.ones((count, 68))
    disagreement[min(WORST, count - 1), DOUBTFUL] = DOUBT + 5
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    window = Window(face=0, start=0, times=np.arange(count) / 25, boxes=boxes)
    made = Labelled(
        window=window,
        points=points,
        disagreement=disagreement,
        weights=np.ones(2) / 2,
        strength=np.ones(68),
        measures=None,
        faults=(),
    )
    return Shown(window=dataclasses.replace(made, **fields), boxes=boxes, schema=IBUG_68)


@pytest.fixture
def video(tmp_path):
    """Grey frames, each of another level."""
    path = tmp_path / "video.mp4"
    levels = 20 + 37 * np.arange(COUNT) % 200
    write_video(path, [np.full((120, 160, 3), n, np.uint8) for n in levels], 25.0, codec="mp4v")
    return path


def level(part):
    """The grey level of most of a picture."""
    return float(np.median(part))


def levels(path):
    """The grey levels of a video's frames, as they can be read."""
    return np.array([level(frame.image) for frame in VideoReader(path).frames()])


def sheet_of(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def yellow(part):
    """How many pixels have the colour of rings, if paler."""
    red, green, blue = np.moveaxis(part.astype(int), -1, 0)
    return int(((red - blue > 50) & (green - blue > 30)).sum())


def test_the_sheet_shows_the_worst_frame_and_others_spread_over_the_window(video):
    sheet, each = sheet_of(review_pictures(video, shown())[0]), levels(video)
    assert sheet.shape == (3 * TILE, 6 * TILE, 3)
    assert level(sheet[: 2 * TILE, : 2 * TILE]) == pytest.approx(each[WORST], abs=2)
    assert level(sheet[2 * TILE :, 200:280]) == pytest.approx(each[WORST], abs=2)
    tiles = [
        level(sheet[TILE * row : TILE * (row + 1), TILE * column : TILE * (column + 1)])
        for row in range(3)
        for column in range(2, 6)
    ]
    np.testing.assert_allclose(tiles, each[::4], atol=2)


def test_doubtful_landmarks_have_a_ring_and_no_others(video):
    sheet = sheet_of(review_pictures(video, shown())[0])
    assert yellow(sheet[: 2 * TILE, : 2 * TILE]) > 20 and yellow(sheet[:, 2 * TILE :]) == 0
    sure = sheet_of(review_pictures(video, shown(disagreement=np.ones((COUNT, 68))))[0])
    assert yellow(sure) == 0


def test_the_clip_shows_the_face_as_it_is_and_with_its_labels(video, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(review_pictures(video, shown())[1])
    frames = [frame.image for frame in VideoReader(path).frames()]
    assert len(frames) == COUNT
    for frame, expected in zip(frames, levels(video), strict=True):
        bare, labelled = frame[:, : frame.shape[1] // 2], frame[:, frame.shape[1] // 2 :]
        inner = bare[100:300, 100:300].astype(int)
        assert level(inner) == pytest.approx(expected, abs=5) and np.ptp(inner) < 30
        assert np.ptp(labelled[100:300, 100:300].astype(int)) > 60


def test_the_face_stays_in_the_middle_without_hiding_its_jitter():
    crops = shown().crops(400)
    points = shown().window.points
    centres = (points.min(axis=1) + points.max(axis=1)) / 2
    seen = np.einsum("tij,tj->ti", crops[:, :2, :2], centres) + crops[:, :2, 2]
    assert np.abs(seen - 200).max() < 60
    jitter = points + np.where(np.arange(COUNT) % 2, 1.0, -1.0)[:, None, None]
    moved = shown(points=jitter).crops(400)
    np.testing.assert_allclose(np.diff(moved[:, 0, 2]), np.diff(crops[:, 0, 2]), atol=2)


def test_short_windows_and_windows_without_labels_are_shown(tmp_path):
    path = tmp_path / "video.mp4"
    write_video(path, [np.full((120, 160, 3), 100, np.uint8)] * 3, 25.0, codec="mp4v")
    none = shown(3, points=np.full((3, 68, 2), np.nan), disagreement=np.full((3, 68), np.nan))
    for some in (shown(3), none):
        sheet, clip = review_pictures(path, some)
        assert level(sheet_of(sheet)[:TILE, 2 * TILE : 5 * TILE]) == pytest.approx(100, abs=4)
        assert len(clip) > 100


def test_another_video_is_refused(video):
    with pytest.raises(UserError, match=r"video.mp4 is damaged or was changed"):
        review_pictures(video, shown(COUNT + 5))


def test_digests_change_with_what_is_drawn():
    one = shown()
    assert shown().digest == one.digest
    points = one.window.points + 0.5
    disagreement = one.window.disagreement + 1
    changed = [shown(points=points), shown(disagreement=disagreement), shown(44)]
    assert len({one.digest, *(other.digest for other in changed)}) == 4
    nothing = shown(weights=np.array([0.1, 0.9]), faults=("dark",), choice="drop", ranked="easy")
    assert nothing.digest == one.digest
