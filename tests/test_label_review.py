"""`ldeq review` and `ldeq label --apply`: what people say counts, and nothing of it is lost."""

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest
from commands import complaint, ldeq
from pages import Page
from test_label import (  # noqa: F401
    IDS,
    Finder,
    contents,
    films,
    label,
    pretend,
    shoot,
    squares,
    table,
    walk,
)
from test_track import model  # noqa: F401  (a fixture)

from ldeq_jax.cli.main import main
from ldeq_jax.errors import UserError
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.labelling import label_films, review_page, writing
from ldeq_jax.labelling.gathered import digests_of, recall
from ldeq_jax.labelling.review_choices import NONE, WORDS, Choice, parse_choices, read_choices
from ldeq_jax.media.video import VideoReader

FAST, SLOW = "below_fast_000020_0", "slow_one_000000_0"


@pytest.fixture(scope="module")
def template(model, tmp_path_factory):  # noqa: F811
    """A set of which the rules drop two windows of five."""
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch)
        films = shoot(tmp_path_factory.mktemp("template") / "films")  # noqa: F811
        calm = label(model, films)
        limit = sorted(float(row["disagreement"]) for row in table(calm))[2]
        out = label(model, films, f"--most_disagreement={limit}")
        shutil.rmtree(films)
    return out


@pytest.fixture
def made(template, tmp_path):
    """Such a set; its films are gone."""
    return shutil.copytree(template, tmp_path / "set")


@pytest.fixture
def alone(monkeypatch):
    """Nothing is loaded, followed or asked."""
    for name in ("load_ensemble", "FaceTracker"):
        monkeypatch.setattr(label_films, name, None)


def write(out, text):
    path = out.parent / "choices.csv"
    path.write_text(text)
    return path


def apply(out, choices, *arguments, code=0):
    """Applies choices: words by ID."""
    text = "".join(f"{id},{word}\n" for id, word in choices.items())
    path = write(out, f"id,choice\n{text}")
    assert main(["label", f"--output={out}", f"--apply={path}", *map(str, arguments)]) == code
    return out


def rows_of(out):
    return {row["id"]: row for row in table(out)}


def record(out):
    return json.loads((out / "settings.json").read_text())


def everything(out):
    """All files of a set but its report, which has the time in it."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {path: path.read_bytes() for path in files if path.name != "report.html"}


# Files of choices.


@pytest.mark.parametrize(
    "text",
    [
        "id,choice\na,drop\nb,none\n",
        "ID;Choice;note\r\na;DROP;bad eyes, both\r\n\r\nb;none;\r\nc;;not seen\r\n",
        "\ufeffid\tchoice\na\tdrop\nb\t none\n",
        'choice,id\n"drop","a"\nnone,b\n,,\n',
        "id,choice,digest\na,drop,\nb,none\n",
    ],
)
def test_files_of_choices_are_read_as_spreadsheets_write_them(tmp_path, text):
    path = tmp_path / "choices.csv"
    for encoding in ("utf-8", "utf-16"):
        path.write_text(text.removeprefix("\ufeff"), encoding=encoding)
        assert read_choices(path).rows == {"a": Choice("drop"), "b": Choice("none")}


def test_files_of_several_people_can_be_joined(tmp_path):
    first, second = (
        "id,choice\na,drop\nb,none\nc,none\n",
        "id,choice\na,drop\nc,easy\nd,none\na,none\n",
    )
    (tmp_path / "all.csv").write_text(first + second)
    words = {id: row.word for id, row in read_choices(tmp_path / "all.csv").rows.items()}
    assert words == {"a": "drop", "b": "none", "c": "easy", "d": "none"}


def test_lines_of_choices_can_be_read_again():
    lines = ["id,choice,digest", "a,drop,abcdefgh", "b,none,", "c,easy,zzzzzzzz"]
    assert parse_choices(lines, "x").lines() == lines


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "choices.csv is no file of choices: its first line must be id,choice"),
        (b"\n\n", "is no file of choices"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is no file of choices"),
        (b"a,drop\n", "is no file of choices"),
        (b"id,choice\na,drop\nb,kep\n", "choices.csv, line 3: must be an ID and then keep, drop,"),
        (b"id,choice\n,drop\n", "line 2: must be an ID"),
        (b'id,choice\n"a,drop\nb,keep\n', "line 2: must be an ID"),
        (b"id,choice\na,drop\n\na,keep\n", "line 4: a is to be keep, and drop in a line above"),
        (b"id,choice,digest\na,drop,b\na,drop,c\n", "line 3: a is to be drop, and drop in a line"),
        (b"\xff\xfeab\xff", "choices.csv is not utf-16 throughout"),
    ],
)
def test_files_that_hold_no_choices_are_refused(tmp_path, data, message):
    path = tmp_path / "choices.csv"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message.replace("\\", "\\\\")):
        read_choices(path)


# What choices do.


def test_a_choice_changes_its_window_and_no_other(made):
    gathered = recall(made)
    before = {id: window.split for id, window in gathered.labels({}).windows.items()}
    assert sorted(before.values()) == ["", "", "easy", "easy", "hard"]
    for id in before:
        for word in WORDS:
            after = gathered.labels({id: word} if word != NONE else {}).windows
            others = {other: window.split for other, window in after.items() if other != id}
            assert others == {other: split for other, split in before.items() if other != id}
            split = after[id].split
            if word == "drop":
                assert split == "" and after[id].reason.startswith("dropped by hand")
            elif word == "keep":
                assert split == (before[id] or after[id].ranked) and split
                assert after[id].reason.startswith("kept by hand although") == (not before[id])
            else:
                assert split == (before[id] if word == NONE else word)


def test_a_window_is_kept_in_the_list_that_a_looser_rule_puts_it_in(made):
    gathered = recall(made)
    windows = gathered.labels({}).windows
    dropped = [id for id, window in windows.items() if not window.kept]
    first = min(dropped, key=lambda id: windows[id].measures.disagreement)
    limit = windows[first].measures.disagreement
    rules = dataclasses.replace(gathered.options.rules, most_disagreement=limit)
    options = dataclasses.replace(gathered.options, rules=rules)
    looser = dataclasses.replace(gathered, options=options).labels({}).windows
    assert gathered.labels({first: "keep"}).windows[first].split == looser[first].split


def test_choices_are_applied_without_films_and_models(made, alone, capsys):
    kept = [id for id, row in rows_of(made).items() if row["decision"] == "keep"]
    out, *_ = dropped = [id for id in rows_of(made) if id not in kept]
    calls = Finder.calls
    apply(made, {kept[0]: "drop", kept[1]: "none", out: "easy"})
    assert Finder.calls == calls and not (made / "UNFINISHED.txt").exists()
    rows = rows_of(made)
    assert rows[kept[0]]["decision"] == "drop" and rows[kept[0]]["reason"] == "dropped by hand"
    assert rows[kept[0]]["choice"] == "drop" and rows[kept[1]]["choice"] == ""
    assert rows[out]["list"] == "easy" and rows[dropped[1]]["decision"] == "drop"
    for folder, ending in (("videos", "mp4"), ("landmarks", "npy"), ("bboxes", "npy")):
        assert (made / folder / f"{out}.{ending}").exists()
        assert not (made / folder / f"{kept[0]}.{ending}").exists()
    assert out in (made / "easy_video_IDs.txt").read_text().split()
    assert "(2 decided on by hand)" in capsys.readouterr().out
    assert record(made)["choices"] == [
        "id,choice,digest",
        *(
            f"{id},{word},{rows[id]['digest']}"
            for id, word in ((kept[0], "drop"), (kept[1], "none"))
        ),
        f"{out},easy,{rows[out]['digest']}",
    ]
    page = Page(made / "report.html").check()
    assert "People looked at 3 windows, and decided on 2 of them: 1 drop, 1 easy." in page.text
    [number] = [n for n, table in enumerate(page.tables) if "by hand" in table[0]]
    shown = {row["ID"]: row for row in page.rows(number)}
    assert (shown[kept[0]]["by hand"], shown[out]["by hand"]) == ("drop", "easy")
    assert shown[kept[0]]["reason"] == "dropped by hand" and shown[kept[1]]["by hand"] == "–"


def test_choices_applied_twice_are_applied_once_and_none_are_none(made, alone):
    before = everything(made)
    choices = {SLOW: "drop", FAST: "hard"}
    apply(made, choices)
    once = everything(made)
    apply(made, choices)
    assert everything(made) == once != before
    apply(made, {})
    assert everything(made) == before
    apply(made, {SLOW: "none"})
    after = everything(made)
    assert {path.name for path in before if before[path] != after[path]} == {"settings.json"}


def test_the_table_of_labels_is_a_file_of_choices(made, alone):
    apply(made, {SLOW: "drop", FAST: "easy"})
    after = everything(made)
    shutil.copy(made / "labels.csv", made.parent / "mine.csv")
    apply(made, {})
    ldeq("label", f"--output={made}", f"--apply={made.parent / 'mine.csv'}")
    assert everything(made) == after


def test_the_table_of_labels_has_a_line_for_each_window_whatever_films_are_called(model, films):  # noqa: F811
    (films / "slow one.avi").rename(films / "two\nlines\udcff; ü.avi")
    out = label(model, films)
    id = "two_lines_ü_000000_0"
    lines = (out / "labels.csv").read_bytes().decode().splitlines()
    assert len(lines) == 6 and rows_of(out)[id]["decision"] == "keep"
    (films.parent / "mine.csv").write_text(
        (out / "labels.csv").read_text("utf-8").replace("keep,,easy,,", "keep,,easy,drop,"), "utf-8"
    )
    easy = {id for id, row in rows_of(out).items() if row["list"] == "easy"}
    ldeq("label", f"--output={out}", f"--apply={films.parent / 'mine.csv'}")
    assert {id for id, row in rows_of(out).items() if row["decision"] == "drop"} == easy


def test_choices_stay_when_films_are_added_and_so_do_ids(model, films):  # noqa: F811
    out = label(model, films)
    before = rows_of(out)
    apply(out, {SLOW: "drop", FAST: "easy"})
    walk(films / "slow (one.avi", frames=14)  # these would be named slow_one and below_fast
    walk(films / "below" / "fast.mov", frames=13)
    rows = rows_of(label(model, films))
    assert (
        len(rows) == 7
        and {id: row["film"] for id, row in before.items()}.items()
        <= {id: row["film"] for id, row in rows.items()}.items()
    )
    assert (rows[SLOW]["choice"], rows[FAST]["choice"], rows[FAST]["list"]) == (
        "drop",
        "easy",
        "easy",
    )
    # With another file, only its choices are left.
    path = write(out, f"id,choice\n{FAST},drop\n")
    rows = rows_of(label(model, films, f"--apply={path}"))
    assert rows[FAST]["decision"] == "drop" and rows[SLOW]["decision"] == "keep"


def test_a_file_of_another_set_is_refused_with_films_too(model, films, capsys):  # noqa: F811
    out = label(model, films)
    apply(out, {SLOW: "drop"})
    whole = contents(out)
    path = write(out, "id,choice\nnobody_000000_0,drop\n")
    label(model, films, f"--apply={path}", code=1)
    assert "the set has no window nobody_000000_0" in capsys.readouterr().err
    assert {name: data for name, data in contents(out).items() if name != "UNFINISHED.txt"} == whole
    assert contents(label(model, films)) == whole


def test_choices_wait_for_films_that_are_not_there(model, films, capsys):  # noqa: F811
    out = label(model, films)
    apply(out, {SLOW: "drop", FAST: "hard"})
    whole, away = contents(out), films.with_name("away.avi")
    (films / "slow one.avi").rename(away)
    rows = rows_of(label(model, films))
    assert "1 choice(s) made by hand wait for windows that are not" in capsys.readouterr().out
    assert set(rows) == {id for id in IDS if "fast" in id} and rows[FAST]["choice"] == "hard"
    # They can be saved and applied again meanwhile, and count when the film is back.
    capsys.readouterr()
    ldeq("review", out)
    assert "1 choice(s) made by hand wait" in capsys.readouterr().out
    data = data_of(out)
    assert [line.partition(",")[0] for line in data["waiting"]] == [SLOW]
    assert data["applied"] == {FAST: "hard"}
    shutil.rmtree(out / "review")
    (out / "review.html").unlink()
    write(out, "\n".join(["id,choice,digest", f"{FAST},hard", *data["waiting"]]))
    ldeq("label", f"--output={out}", f"--apply={out.parent / 'choices.csv'}")
    away.rename(films / "slow one.avi")
    assert contents(label(model, films)) == whole
    # Another film of that name has windows of its own.
    walk(films / "slow one.avi", speed=2)
    rows = rows_of(label(model, films))
    assert rows[SLOW]["choice"] == "" and rows[SLOW]["frames"] == "15"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,choice\nnobody_000000_0,drop\n", "the set has no window nobody_000000_0: is it the"),
        (f"id,choice,digest\n{SLOW},drop,abcdefgh\n", f"of another set: {SLOW} is another window"),
        (f"id,choice\n{SLOW},dorp\n", "line 2: must be an ID and then keep"),
        ("", "is no file of choices"),
    ],
)
def test_files_of_other_sets_change_nothing(made, alone, text, message):
    apply(made, {SLOW: "drop"})
    before = everything(made)
    assert message in complaint("label", f"--output={made}", f"--apply={write(made, text)}")
    assert everything(made) == before


def test_applying_goes_on_after_an_interruption(made, alone, monkeypatch):
    choices = {SLOW: "drop", FAST: "hard"}
    apply(made, {})
    apply(made, choices)
    whole = everything(made)
    apply(made, {})
    with monkeypatch.context() as patch:
        patch.setattr(
            writing, "label_page", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        apply(made, choices, code=130)
    assert (made / "UNFINISHED.txt").exists()
    apply(made, choices)
    assert everything(made) == whole


@pytest.mark.parametrize(
    "name", ["members.json", f"{SLOW}.npz", f"{SLOW}.mp4", "slow_one.film.npz"]
)
def test_a_set_that_is_not_whole_any_more_is_not_changed(made, alone, name):
    (made / "work" / name).unlink()
    before = everything(made)
    path = write(made, f"id,choice\n{FAST},drop\n")
    for arguments in (("label", f"--output={made}", f"--apply={path}"), ("review", made)):
        said = complaint(*arguments)
        assert "work" in said  # the set was made elsewhere and moved here
        assert f"run again what made the set, with --output={made}: ldeq label" in said
    assert everything(made) == before


def test_folders_without_a_set_are_refused(tmp_path):
    path = write(tmp_path / "set", "id,choice\n")
    for arguments in (("label", f"--output={tmp_path}", f"--apply={path}"), ("review", tmp_path)):
        assert "holds no finished set of ldeq label: " in complaint(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name films: INPUT is needed"),
        (
            ["--apply=a.csv", "--most_disagreement=4", "--overwrite"],
            "leave out --overwrite, --most_",
        ),
        (["--apply=a.csv", "--darkest=25"], "leave out --darkest, or name the films"),
    ],
)
def test_options_that_would_not_count_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        main(["label", "--output=x", *arguments])
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_a_window_without_labels_cannot_be_kept(model, films, monkeypatch):  # noqa: F811
    find = Finder.find

    def nothing(self, frames, boxes):
        found = find(self, frames, boxes)
        gone = self.name == "three" and len(frames) == 15 - 8  # the last frames of the slow film
        points = np.full_like(found.points, np.nan) if gone else found.points
        return Landmarks(points=points, spread=found.spread, ok=found.ok)

    monkeypatch.setattr(Finder, "find", nothing)
    out = label(model, films)
    before = everything(out)
    assert "three gives no landmarks in 7 of 15 frames" in rows_of(out)[SLOW]["reason"]
    path = write(out, f"id,choice\n{SLOW},easy\n")
    said = complaint("label", f"--output={out}", f"--apply={path}")
    assert f"{SLOW} has no labels that could be kept (" in said and everything(out) == before
    apply(out, {SLOW: "drop"})
    assert rows_of(out)[SLOW]["reason"].startswith("dropped by hand; three gives")
    ldeq("review", out)
    about = {one["id"]: one for one in data_of(out)["windows"]}
    assert not about[SLOW]["labelled"] and about[SLOW]["clip"]
    assert (out / about[SLOW]["sheet"]).stat().st_size > 1000


# The page.


def data_of(out):
    page = Page(out / "review.html")
    return page.charts[0]


def test_the_page_shows_all_windows(made, alone, capsys):
    apply(made, {SLOW: "drop", FAST: "none"})
    ldeq("review", made)
    page = Page(made / "review.html")
    page.check()
    data, rows = page.charts[0], rows_of(made)
    assert [one["id"] for one in data["windows"]] == list(rows)
    assert data["applied"] == {SLOW: "drop", FAST: "none"} and data["waiting"] == []
    assert f"ldeq label --output={made} --apply=choices.csv" == data["command"]
    for one in data["windows"]:
        row = rows[one["id"]]
        assert one["digest"] == row["digest"] and one["film"] == row["film"]
        assert one["motion"] == pytest.approx(float(row["motion"]), abs=1e-3)
        assert one["frames"] == len(one["curve"]) == int(row["frames"])
        assert one["worst"] == pytest.approx(max(one["curve"]), abs=0.06)
        assert one["curve"][one["worstFrame"]] == max(one["curve"])
        if one["id"] != SLOW:
            assert one["decided"] == (row["list"] or "dropped")
            assert one["faults"] == row["reason"]
        sheet = cv2.imread(str(made / one["sheet"]))
        clip = [frame.image for frame in VideoReader(made / one["clip"]).frames()]
        assert sheet.shape == (720, 1440, 3)
        assert len(clip) == one["frames"] and clip[0].shape == (400, 800, 3)


def test_a_set_without_windows_has_a_page(model, films):  # noqa: F811
    out = label(model, films / "empty.avi", code=1)
    ldeq("review", out)
    assert data_of(out)["windows"] == []


def test_the_browser_knows_a_set_again_that_has_grown(model, films):  # noqa: F811
    """What the browser keeps is filed under the set, and there under its windows."""
    out = label(model, films)
    ldeq("review", out)
    key = data_of(out)["key"]
    walk(films / "more.avi", frames=13)
    label(model, films, "--members=one,two", "--most_disagreement=2")
    ldeq("review", out)
    assert data_of(out)["key"] == key and len(data_of(out)["windows"]) == 6
    other = label(model, films, f"--output={films.parent / 'other'}")
    ldeq("review", films.parent / "other")
    assert other == out and data_of(films.parent / "other")["key"] != key


def test_pictures_are_made_once(made, alone, monkeypatch):
    ldeq("review", made)
    before = {path.name: path.stat().st_mtime_ns for path in (made / "review").iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(review_page, "review_pictures", None)
        apply(made, {SLOW: "drop"})  # changes no picture
        ldeq("review", made)
    assert {path.name: path.stat().st_mtime_ns for path in (made / "review").iterdir()} == before
    lost = sorted(path for path in (made / "review").iterdir() if SLOW in path.name)[0]
    lost.unlink()
    (made / "review" / "notes.txt").write_text("mine")
    ldeq("review", made)
    after = {path.name: path.stat().st_mtime_ns for path in (made / "review").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {
        name for name in before if SLOW in name
    }
    assert after.keys() - before.keys() == {"notes.txt"}


def test_a_call_that_is_broken_off_has_done_what_it_did(made, alone, monkeypatch):
    real, calls = review_page.review_pictures, []

    def twice(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(review_page, "review_pictures", twice)
    assert main(["review", str(made)]) == 130
    assert len(list((made / "review").iterdir())) == 4 and not (made / "review.html").exists()
    ldeq("review", made)
    assert len(calls) == 3 + 3 and len(list((made / "review").iterdir())) == 10


def test_pictures_of_other_labels_are_made_again(model, films):  # noqa: F811
    out = label(model, films)
    ldeq("review", out)
    before = {path.name for path in (out / "review").iterdir()}
    label(model, films, "--members=one,two,wild", "--most_disagreement=90", "--most_in_a_frame=99")
    ldeq("review", out)
    after = {path.name for path in (out / "review").iterdir()}
    assert len(before) == len(after) == 10 and not before & after


def test_a_broken_video_does_not_stop_the_others(made, alone, capsys):
    (made / f"work/{SLOW}.mp4").write_bytes(b"no video")
    assert main(["review", str(made)]) == 3
    assert SLOW in capsys.readouterr().err
    about = {one["id"]: one for one in data_of(made)["windows"]}
    assert "There are no pictures of it" in about[SLOW]["broken"] and about[SLOW]["clip"] == ""
    assert (made / about[FAST]["clip"]).exists()


def test_names_of_films_are_only_text(model, films):  # noqa: F811
    name = "<script>alert(1)<!-- .avi".replace("/", "")
    (films / "slow one.avi").rename(films / name)
    out = label(model, films)
    ldeq("review", out)
    page = Page(out / "review.html").check()
    assert len(page.scripts) == 1 and len(page.charts) == 1
    assert any(one["film"].endswith(name) for one in page.charts[0]["windows"])
    assert "<script>alert" not in page.source


def test_films_may_have_the_longest_names_that_there_are(model, films):  # noqa: F811
    deep = films / ("d" * 200) / ("ü" * 124 + "é.avi")
    deep.parent.mkdir()
    (films / "slow one.avi").rename(deep)
    (films / "below" / "fast.avi").rename(deep.with_name("ü" * 124 + "è.avi"))
    out = label(model, films)
    ldeq("review", out)
    assert len({id.rsplit("_", 2)[0] for id in rows_of(out)}) == 2
    names = [path.name for path in out.rglob("*")]
    assert max(len(name.encode()) for name in names) <= 255 and len(rows_of(out)) == 5


def test_digests_tell_windows_apart(made):
    gathered = recall(made)
    digests = digests_of(gathered.surveys)
    assert len(set(digests.values())) == len(digests) == 5
    assert all(len(text) == 8 and text.isalpha() for text in digests.values())
