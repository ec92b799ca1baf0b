"""Laws of pictures of motion: what is drawn where, and videos that decode to what went in."""

import cv2
import numpy as np
import pytest

from ldeq_jax.face.schema import Contour, LandmarkSchema
from ldeq_jax.report import draw, overlay, video_plots
from ldeq_jax.report.video_plots import Curve

# Two eyes, joined by a line, and a nose that no contour touches.
SCHEMA = LandmarkSchema(
    name="three",
    num_landmarks=3,
    flip_permutation=(1, 0, 2),
    eye_corners=(0, 1),
    contours=(Contour((0, 1)),),
)
POINTS = np.array([[26.0, 28.0], [42.0, 28.0], [34.0, 38.0]])
NAN = np.full((3, 2), np.nan)
PLAIN = np.array([90, 100, 90], np.uint8)  # no pixel of a black and white caption has it


def plain(height=61, width=71):
    return np.tile(PLAIN, (height, width, 1))


def moving(frames):
    """A face that walks to the right, (frames, 3, 2)."""
    return POINTS + np.arange(frames)[:, None, None] * [0.5, 0.0]


def read(path):
    """Frames of a video as (T, H, W, 3) RGB, and its frame rate."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames, fps = [], capture.get(cv2.CAP_PROP_FPS)
    while (answer := capture.read())[0]:
        frames.append(answer[1][..., ::-1])
    capture.release()
    return np.stack(frames), fps


def extent(mask):
    """First row, end of rows, first column, end of columns of what is True."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def axes_of(figure_maker, monkeypatch, path):
    """Axes of the plot that a function makes, after it has drawn it."""
    kept = []

    def subplots(*args):
        kept.append(made(*args))
        return kept[-1]

    made = video_plots.subplots
    monkeypatch.setattr(video_plots, "subplots", subplots)
    figure_maker(path)
    assert cv2.imread(str(path)).std() > 0
    return kept[0][1][0, 0]


# One frame.


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [(61, 71), (60, 70), (500, 333)])
def test_each_method_has_the_frame_once_below_its_name(count, size):
    names = ["Frame by frame", "RwR", "a name much too long for the width of a narrow panel"]
    picture = overlay.side_by_side(
        plain(*size), {name: NAN for name in names[:count]}, SCHEMA, height=100
    )
    scale = -(-100 // size[0])
    height, width = scale * size[0], scale * size[1]
    assert picture.dtype == np.uint8
    assert picture.shape[0] % 2 == 0 and picture.shape[1] % 2 == 0
    frames = (picture == PLAIN).all(axis=-1)
    top = extent(frames)[0]
    assert frames[top : top + height].sum(axis=1).tolist() == [count * width] * height
    assert not frames[:top].any() and not frames[top + height :].any()
    starts = np.flatnonzero(np.diff(frames[top].astype(int), prepend=0) == 1)
    gap = np.diff(starts) - width
    assert len(starts) == count and (gap == gap[:1]).all() and (gap > 0).all()
    ink = (picture < 160).all(axis=-1)[:top]
    for start in starts:
        first, last, left, right = extent(ink[:, start : start + width])
        assert 0 < first and last < top and 0 < left and right < width
        assert abs(left - (width - right)) <= 0.05 * width + 2, "in the middle"
    # Nothing but white between the frames, and no caption reaches into the next.
    between = np.ones(picture.shape[1], bool)
    for start in starts:
        between[start : start + width] = False
    assert (picture[:, between] == 255).all()


def test_captions_have_one_size():
    def ink(*names):
        picture = overlay.side_by_side(plain(), dict.fromkeys(names, NAN), SCHEMA)
        width = 8 * 71
        return extent(
            (picture[:, :width] < 160).all(axis=-1) & (picture[:, :width] != PLAIN).any(-1)
        )

    wide = "W" * 60
    alone, beside = ink("W"), ink("W", wide)
    assert beside[1] - beside[0] < 0.7 * (alone[1] - alone[0])
    with pytest.raises(ValueError, match="no method"):
        overlay.side_by_side(plain(), {}, SCHEMA)


@pytest.mark.parametrize("window", [None, (20, 22, 50, 45), (-9, 22, 50, 900)])
@pytest.mark.parametrize("who", ["prediction", "target"])
def test_points_are_drawn_where_their_pixels_went(window, who):
    frame = plain()
    frame[38, 34, 0] = 200  # red, under the nose
    alone = NAN.copy()
    alone[2] = POINTS[2]
    bare, drawn = (
        overlay.side_by_side(frame, {"m": NAN}, SCHEMA, target=points, window=window)
        if who == "target"
        else overlay.side_by_side(frame, {"m": points}, SCHEMA, window=window)
        for points in (NAN, alone)
    )
    rows, columns = np.nonzero((bare != drawn).any(axis=-1))
    red = np.argwhere(bare[..., 0] > 60.0 + bare[..., 1]).mean(axis=0)
    np.testing.assert_allclose([rows.mean(), columns.mean()], red, atol=1)
    height = (45 if window and window[3] < 61 else 61) - (22 if window else 0)
    top = extent((bare == PLAIN).all(axis=-1))[0]
    assert (len(bare) - top) // height == -(-440 // height)


def test_each_method_gets_its_own_points_and_all_the_reference():
    first, second = NAN.copy(), NAN.copy()
    first[2], second[2] = POINTS[2], POINTS[2] - [10, 0]
    target = NAN.copy()
    target[2] = POINTS[2] + [0, 15]
    picture = overlay.side_by_side(
        plain(60, 70), {"first": first, "second": second}, SCHEMA, target=target
    )
    scale, top = 8, len(picture) - 8 * 60
    for left, x in ((0, 34), (8 * 70 + 4, 24)):
        row, column = top + scale * 38 + 4, left + scale * x + 4
        assert tuple(picture[row, column]) == draw.PREDICTED_RGB
        row, column = top + scale * 53 + 4, left + scale * 34 + 4
        assert tuple(picture[row, column]) == draw.TARGET_RGB


def test_lines_are_as_thick_however_large_the_face():
    def thickness(points):
        picture = overlay.side_by_side(plain(400, 600), {"m": points}, SCHEMA)
        middle = round(points[:2, 0].mean() + 0.5)  # scale 2: the pixel right of the middle
        return (picture[:, 2 * middle] != PLAIN).any(-1) & (picture[:, 2 * middle] != 255).any(-1)

    low, high = (
        np.array([[250.0, 100], [290, 100], [0, 0]]),
        np.array([[5.0, 100], [590, 100], [0, 0]]),
    )
    low[2] = high[2] = np.nan
    count = [thickness(points)[60:].sum() for points in (low, high)]
    assert count[0] == count[1] > 0


def test_a_window_outside_the_frame_is_refused():
    with pytest.raises(ValueError, match=r"window \(80, 0, 90, 20\) lies outside .* 71 x 61"):
        overlay.side_by_side(plain(), {"m": POINTS}, SCHEMA, window=(80, 0, 90, 20))


def test_the_window_holds_every_landmark_with_room_around_it():
    tracks = [moving(21), moving(5) - [2, 0]]
    tracks[0][3], tracks[1][2, 1] = np.nan, np.inf
    assert overlay.face_window(tracks, 0) == (24, 28, 53, 39)
    # 28 and 10 pixels between the outermost centres, a quarter of each added on each side
    assert overlay.face_window(tracks, 0.5) == (17, 25, 60, 42)
    assert overlay.face_window([NAN]) is None


# Whole clips.


def test_a_video_decodes_to_the_pictures_of_its_frames(tmp_path):
    clip, path = moving(7), tmp_path / "made" / "clip.mp4"
    target = clip + [0, 4]
    predictions = {"one": clip, "two": clip[::-1]}
    frames = [plain() + np.uint8(10 * t) for t in range(7)]
    overlay.write_overlay(
        path, iter(frames), predictions, SCHEMA, 12.5, target=target, codec="mp4v"
    )
    decoded, fps = read(path)
    assert len(decoded) == 7 and fps == pytest.approx(12.5)
    assert decoded.shape[1] % 2 == 0 and decoded.shape[2] % 2 == 0
    assert [p.name for p in path.parent.iterdir()] == ["clip.mp4"]
    window = overlay.face_window([clip, target])
    for t, frame in enumerate(decoded):
        drawn = {name: track[t] for name, track in predictions.items()}
        picture = overlay.side_by_side(frames[t], drawn, SCHEMA, target=target[t], window=window)
        difference = np.abs(frame.astype(int) - picture)
        coloured = np.ptp(picture, axis=-1) > 60
        assert difference.mean() < 4 and difference[coloured].mean() < 30
    still = tmp_path / "still.png"
    overlay.write_still(still, iter(frames), predictions, SCHEMA, 6, target=target)
    np.testing.assert_array_equal(cv2.imread(str(still))[..., ::-1], picture)


def test_a_frame_that_cannot_be_decoded_shows_the_one_before_or_grey(tmp_path):
    frames = [None, None, plain() + np.uint8(50), None, plain()]
    path, still = tmp_path / "a.mp4", tmp_path / "a.png"
    arguments = {"m": moving(5) * np.nan}, SCHEMA
    overlay.write_overlay(path, iter(frames), *arguments, 25, margin=None, codec="mp4v")
    shown = read(path)[0][:, -9, 9, 0].astype(int)
    np.testing.assert_allclose(shown, [128, 128, 140, 140, 90], atol=4)
    for index, grey in ((1, 128), (3, 140)):
        overlay.write_still(still, iter(frames), *arguments, index, margin=None)
        assert cv2.imread(str(still))[-9, 9, 2] == grey


def test_times_are_kept(tmp_path):
    path, frames = tmp_path / "a.mp4", [plain() + np.uint8(20 * t) for t in range(3)]
    times = [5.0, 5.1, 5.4]
    options = {"times": times, "margin": None, "codec": "mp4v"}
    overlay.write_overlay(path, iter(frames), {"m": moving(3)}, SCHEMA, 10, **options)
    decoded, fps = read(path)
    assert fps == 10
    np.testing.assert_allclose(decoded[:, -9, 9, 0], [90, 110, 110, 110, 130, 130], atol=4)
    with pytest.raises(ValueError, match="3 times for landmarks of 2"):
        overlay.write_overlay(path, frames[:2], {"m": moving(2)}, SCHEMA, 10, times=times)


def test_the_usual_codec_is_written_and_read_again(tmp_path):
    overlay.write_overlay(
        tmp_path / "clip.mp4", [plain(440, 60)] * 3, {"m": moving(3)}, SCHEMA, 30, margin=None
    )
    decoded, fps = read(tmp_path / "clip.mp4")
    assert len(decoded) == 3 and fps == pytest.approx(30)
    assert b"vp09" in (tmp_path / "clip.mp4").read_bytes()


def test_frames_without_landmarks_stay_as_they_are(tmp_path):
    clip = moving(4)
    clip[1:3] = np.nan
    overlay.write_overlay(
        tmp_path / "a.mp4", [plain()] * 4, {"m": clip}, SCHEMA, 25, margin=None, codec="mp4v"
    )
    decoded, _ = read(tmp_path / "a.mp4")
    faces = decoded[:, -8 * 61 :, : 8 * 71]
    blue = (faces.max(axis=-1).astype(int) - faces.min(axis=-1) > 60).sum(axis=(1, 2))
    assert (blue[[0, 3]] > 100).all() and (blue[[1, 2]] == 0).all()
    overlay.write_overlay(
        tmp_path / "b.mp4", [plain()] * 4, {"m": clip * np.nan}, SCHEMA, 25, codec="mp4v"
    )
    assert len(read(tmp_path / "b.mp4")[0]) == 4


def test_frames_are_held_one_at_a_time(tmp_path):
    """A frame is only asked for when the picture of the one before has been made."""
    asked = made = 0

    class Track(np.ndarray):
        def __getitem__(self, t):
            nonlocal made
            made += isinstance(t, int)
            return np.asarray(super().__getitem__(t))

    def frames():
        nonlocal asked
        for _ in range(5):
            assert made == asked
            asked += 1
            yield plain(440, 60)

    track = moving(5).view(Track)
    overlay.write_overlay(
        tmp_path / "a.mp4", frames(), {"m": track}, SCHEMA, 25, margin=None, codec="mp4v"
    )
    assert asked == made == 5


@pytest.mark.parametrize(
    "frames, said", [(2, "for 2 frames"), (4, "for more frames"), (0, "for 0")]
)
def test_a_clip_of_another_length_leaves_no_file(tmp_path, frames, said):
    path = tmp_path / "clip.mp4"
    path.write_text("older")
    arguments = [plain(440, 60)] * frames, {"m": moving(3)}, SCHEMA, 25
    with pytest.raises(ValueError, match=f"landmarks of 3 frames {said}"):
        overlay.write_overlay(path, *arguments, codec="mp4v")
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"] and path.read_text() == "older"


def test_clips_that_make_no_sense_are_refused(tmp_path):
    path, one = tmp_path / "clip.mp4", [plain()]
    with pytest.raises(ValueError, match=r"same frames.*'a': 1, 'b': 2"):
        overlay.write_overlay(path, one, {"a": moving(1), "b": moving(2)}, SCHEMA, 25)
    with pytest.raises(ValueError, match=r"same frames.*'a': 1, 'target': 2"):
        overlay.write_overlay(path, one, {"a": moving(1)}, SCHEMA, 25, target=moving(2))
    with pytest.raises(ValueError, match="same frames, one at least"):
        overlay.write_overlay(path, one, {}, SCHEMA, 25)
    with pytest.raises(ValueError, match="fps must be greater than 0, got 0"):
        overlay.write_overlay(path, one, {"a": moving(1)}, SCHEMA, 0)
    for index in (-1, 1, 2):
        with pytest.raises(ValueError, match=f"no frame {index} in a clip of 2"):
            overlay.write_still(path, one, {"a": moving(2)}, SCHEMA, index)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, codec", [("clip", "mp4v"), ("clip.txt", "mp4v"), ("a.mp4", "????")])
def test_what_cannot_be_written_is_named_with_the_fix(tmp_path, name, codec):
    path = tmp_path / name
    with pytest.raises(OSError, match=f"{name}: use a name ending in .mp4 .* codec mp4v"):
        overlay.write_overlay(path, [plain()], {"m": moving(1)}, SCHEMA, 25, codec=codec)
    assert not list(tmp_path.iterdir())


def test_a_file_for_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"file"):
        overlay.write_overlay(
            tmp_path / "file" / "clip.mp4", [plain()], {"m": moving(1)}, SCHEMA, 25
        )


def test_frames_that_do_not_arrive_are_missed(tmp_path):
    frames = [plain(440, 60), plain(440, 80), plain(440, 60)]
    with pytest.raises(OSError, match=r"clip\.mp4: only 2 of 3 frames"):
        overlay.write_overlay(
            tmp_path / "clip.mp4", frames, {"m": moving(3)}, SCHEMA, 25, margin=None, codec="mp4v"
        )
    assert not list(tmp_path.iterdir())


# Plots.


def test_the_axes_end_not_far_beyond_the_reference(tmp_path, monkeypatch):
    curves = {
        "filter": Curve(
            [(4.0, 100), (4.1, 300), (3.9, 80), (4.5, 70), (6.3, 99), (6.5, 10), (90, 400)]
        ),
        "ours": Curve([(4.0, 100), (3.8, 60)], recurrence=True),
    }

    def axes(**marks):
        def make(path):
            video_plots.trade_off_plot(curves, path, **marks)

        return axes_of(make, monkeypatch, tmp_path / "plot.png")

    near = axes(reference=(4.0, 100))
    (left, right), (bottom, top) = near.get_xlim(), near.get_ylim()
    assert 3.4 < left < 3.8 and 4.5 < right < 4.7
    assert 50 < bottom < 60 and 100 < top < 120
    assert axes(reference=(4.0, 100), floor=20).get_ylim()[0] < 20
    far = axes(reference=(4.0, 100), chosen={"filter": (90, 400)})
    assert far.get_xlim()[1] > 90 and far.get_ylim()[1] > 400
    everything = axes()
    assert everything.get_xlim()[1] > 90 and everything.get_ylim()[1] > 400
    with pytest.raises(ValueError, match=r"chosen for \['other'\]"):
        axes(chosen={"other": (4.0, 100)})


def test_recurrence_and_foresight_can_be_told_apart(tmp_path, monkeypatch):
    points = [(4.0, 100), (3.8, 60)]
    curves = {
        "filter": Curve(points),
        "cloud": Curve(points, joined=False),
        "smoother": Curve(points, causal=False),
        "ours": Curve(points, recurrence=True),
    }
    axes = axes_of(
        lambda path: video_plots.trade_off_plot(curves, path), monkeypatch, tmp_path / "plot.png"
    )
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["ours", "filter", "cloud", "smoother", "needs later frames"]
    ours, filtered = lines.pop("ours"), lines["filter"]
    assert all(ours.get_linewidth() >= 2 * line.get_linewidth() for line in lines.values())
    assert all(ours.get_zorder() > line.get_zorder() for line in lines.values())
    assert len({line.get_marker() for line in (ours, *lines.values())}) == 4
    assert [line.get_linestyle() for line in lines.values()] == ["-", "-", "--", "--"]
    assert lines["smoother"].get_markerfacecolor() == "white" != filtered.get_markerfacecolor()


def test_of_a_cloud_only_what_nothing_beats_is_joined(tmp_path, monkeypatch):
    """The rest is faint for recurrence, and left out for filters, of which there are many."""
    cloud = [(4.1, 60), (4.0, 80), (4.0, 90), (5.0, 60), (4.5, np.nan), (4.1, 60), (3.0, 99)]
    curves = {
        "cloud": Curve(cloud, joined=False, recurrence=True),
        "filter": Curve(cloud, joined=False),
        "line": Curve(cloud),
    }
    axes = axes_of(
        lambda path: video_plots.trade_off_plot(curves, path, chosen={"line": (4.0, 80)}),
        monkeypatch,
        tmp_path / "plot.png",
    )
    faint, front, none, filtered, _, line, rim = axes.lines[:7]
    np.testing.assert_array_equal(filtered.get_xydata(), front.get_xydata())
    np.testing.assert_array_equal(front.get_xydata()[:4], [(3, 99), (4, 80), (4.1, 60), (4.1, 60)])
    np.testing.assert_array_equal(faint.get_xydata(), [(4.0, 90), (5.0, 60)])
    assert front.get_linestyle() == "-" and faint.get_linestyle() == "None"
    assert faint.get_alpha() < 0.5 and front.get_alpha() is None
    assert faint.get_color() == front.get_color() and faint.get_marker() == front.get_marker()
    np.testing.assert_array_equal(line.get_xydata(), cloud)
    np.testing.assert_array_equal(rim.get_xydata(), [(4.0, 80)])
    assert rim.get_markeredgecolor() == "black" and rim.get_markerfacecolor() == line.get_color()
    assert not len(none.get_xydata())


@pytest.mark.parametrize(
    "curves",
    [
        {},
        {"empty": Curve([])},
        {"one": Curve([(4.0, 100)])},
        {"gap": Curve([(4.0, 100), (np.nan, np.nan), (5.0, np.nan)], recurrence=True)},
        {"nothing": Curve([(np.nan, np.nan)], causal=False)},
        {f"filter {i}": Curve(np.array([(4.0, 100), (3.0, 50)]) + i) for i in range(15)},
    ],
)
@pytest.mark.parametrize(
    "reference, floor", [(None, None), ((4.0, 100.0), 10.0), ((np.nan, 100.0), np.nan)]
)
def test_any_curves_can_be_plotted(tmp_path, curves, reference, floor):
    path = tmp_path / "plot.png"
    chosen = {name: (np.nan, 4.0) for name in list(curves)[:1]}
    video_plots.trade_off_plot(curves, path, reference=reference, chosen=chosen, floor=floor)
    picture = cv2.imread(str(path))
    assert picture.std() > 0 and min(picture.shape[:2]) > 300


def test_flicker_stands_at_its_time_and_gaps_stay_empty(tmp_path, monkeypatch):
    values = [np.nan, 3, 4, np.nan, 5, np.nan]
    series = {"a": values, "none": [np.nan] * 3, "empty": []}
    axes = axes_of(
        lambda path: video_plots.flicker_plot(series, path, 4.0, "clip"),
        monkeypatch,
        tmp_path / "plot.png",
    )
    line, alone = axes.lines[:2]
    np.testing.assert_array_equal(line.get_xydata()[:, 1], values)
    np.testing.assert_array_equal(line.get_xdata(), np.arange(6) / 4)
    np.testing.assert_array_equal(alone.get_xydata(), [[1.0, 5.0]])
    assert alone.get_marker() == "." and axes.get_title(loc="right") == "clip"
    assert axes.get_ylim()[0] == 0
    video_plots.flicker_plot({}, tmp_path / "empty.png", 25.0)
    assert cv2.imread(str(tmp_path / "empty.png")).std() > 0


def test_plots_for_a_missing_folder_are_refused(tmp_path):
    path = tmp_path / "missing" / "plot.png"
    with pytest.raises(OSError, match="missing"):
        video_plots.trade_off_plot({"one": Curve([(4.0, 100)])}, path)
    with pytest.raises(OSError, match="missing"):
        video_plots.flicker_plot({"one": [1.0]}, path, 25.0)
