"""Text is the same in every encoding, names in every spelling; nothing of others is replaced."""

import codecs
import errno
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from ldeq_jax.errors import UserFileExistsError
from ldeq_jax.media import files

TEXT = "Zoë 1\nÅsa 2\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("latin-1"),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.replace("\n", "\r\n").encode("utf-16"),
        TEXT.replace("\n", "\r").encode(),
    ],
)
def test_text_does_not_depend_on_its_encoding(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    assert files.read_text(tmp_path / "a.txt") == TEXT


def test_text_that_breaks_off_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT.encode("utf-16")[:-1])
    with pytest.raises(ValueError, match=r"a\.txt is not utf-16 throughout: save it as UTF-8"):
        files.read_text(tmp_path / "a.txt")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_found_in_another_case_or_form(tmp_path, form):
    there = tmp_path / unicodedata.normalize(form, "Zoë.JPG")
    there.touch()
    for wanted in ("NFC", "NFD"):
        for name in ("Zoë.JPG", "Zoë.jpg", "zoë.Jpg"):
            assert files.find_file(tmp_path / unicodedata.normalize(wanted, name)) == there
    assert files.find_file(tmp_path / "Zoe.jpg") == tmp_path / "Zoe.jpg"
    assert files.find_file(tmp_path / "none" / "Zoe.jpg") == tmp_path / "none" / "Zoe.jpg"


def test_an_exact_name_comes_first_and_of_several_others_none(tmp_path):
    for name in ("a.JPG", "A.jpg"):
        (tmp_path / name).touch()
    assert files.find_file(tmp_path / "A.jpg") == tmp_path / "A.jpg"
    assert files.find_file(tmp_path / "a.jpg") == tmp_path / "a.jpg"


@pytest.mark.parametrize("overwrite", [False, True])
def test_places_that_cannot_be_written_are_named_at_once(tmp_path, overwrite):
    (tmp_path / "file.txt").touch()
    (tmp_path / "a.png").mkdir()
    below = tmp_path / "file.txt" / "x" / "a.png"
    with pytest.raises(UserFileExistsError, match=r"file\.txt is a file, so .*x/a\.json cannot"):
        files.check_outputs([below.with_suffix(".json"), below], overwrite)
    with pytest.raises(UserFileExistsError, match=r"a\.png is a folder"):
        files.check_outputs([tmp_path / "a.json", tmp_path / "a.png"], overwrite)
    files.check_outputs([tmp_path / "new" / "folder" / "a.png"], overwrite)


def test_entries_are_found_in_either_form():
    entries = {unicodedata.normalize("NFD", "Zoë.jpg"): 1, "b.jpg": 2}
    assert files.entry_of(entries, unicodedata.normalize("NFC", "Zoë.jpg")) == 1
    assert files.entry_of(entries, unicodedata.normalize("NFD", "Zoë.jpg")) == 1
    assert files.entry_of(entries, "c.jpg") is None
    both = {unicodedata.normalize(form, "Zoë.jpg"): form for form in ("NFC", "NFD")}
    for name, form in both.items():
        assert files.entry_of(both, name) == form


def write_numbers(path, names):
    if path.suffix == ".json":
        path.write_text(json.dumps({files.RECORD: names}))
    else:
        np.savez(path, **{files.RECORD: np.array(names)})


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_what_an_earlier_call_lists_may_be_replaced(tmp_path, suffix):
    numbers, drawing, still = (tmp_path / f"a{end}" for end in (suffix, ".png", "_frame.png"))
    files.check_outputs([numbers, drawing, still], overwrite=False)
    write_numbers(numbers, [numbers.name, drawing.name])
    drawing.touch()
    files.check_outputs([numbers, drawing, still], overwrite=False)
    still.touch()  # of another program
    with pytest.raises(FileExistsError, match=r"a_frame\.png exists.*--output.*--overwrite"):
        files.check_outputs([numbers, drawing, still], overwrite=False)
    files.check_outputs([numbers, drawing, still], overwrite=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b'{"a.jpg": [1, 2, 3, 4]}',
        b'["written_files"]',
        b'{"written_files": ["b.json"]}',
        b'{"written_files": [["a.json"]]}',
        b'{"written_files": 1}',
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_numbers_of_other_programs_are_kept(tmp_path, content, suffix):
    numbers = tmp_path / f"a{suffix}"
    numbers.write_bytes(content)
    with pytest.raises(FileExistsError, match=rf"a\{suffix} exists"):
        files.check_outputs([numbers, tmp_path / "a.png"], overwrite=False)


def test_archives_of_other_programs_are_kept(tmp_path):
    np.savez(tmp_path / "a.npz", landmarks=np.zeros(3))
    np.save(tmp_path / "b.npy", np.zeros(3))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    for name in ("a.npz", "b.npz"):
        with pytest.raises(FileExistsError, match=name):
            files.check_outputs([tmp_path / name], overwrite=False)


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    for name in ("write_bytes", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(OSError, match=r"a\.txt'$") as raised:
        files.write_whole(tmp_path / "a.txt", b"")
    assert raised.value.filename == str(tmp_path / "a.txt")


def test_a_link_that_leads_nowhere_is_not_written_through(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone")
    with pytest.raises(FileExistsError, match=r"a\.png"):
        files.check_outputs([tmp_path / "a.json", tmp_path / "a.png"], overwrite=False)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_tilde_is_the_home_directory(home):
    assert files.expand("~/a b/c") == home / "a b" / "c"
    assert files.expand("~") == home
    for other in ("a/~/b", "/a~", "/~/a", ""):
        assert files.expand(other) == Path(other)
    with pytest.raises(ValueError, match="~nobody-of-that-name/a: no home directory"):
        files.expand("~nobody-of-that-name/a")
