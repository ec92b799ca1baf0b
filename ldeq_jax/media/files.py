"""Files: paths as users write them, text in any usual encoding, safe writing of outputs."""

import codecs
import contextlib
import json
import os
import secrets
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ldeq_jax.errors import UserError, UserFileExistsError

RECORD = "written_files"  # entry of a file of numbers: names of all files written with it

Value = TypeVar("Value")
_MARKS = (  # those of UTF-32 begin with those of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def expand(path: str | os.PathLike[str]) -> Path:
    """A path with the home directory in place of a leading `~` or `~USER`.

    So `~` works where no shell has replaced it, as in `--output=~/a.png`.

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: no home directory of that user") from error


def read_text(path: str | os.PathLike) -> str:
    r"""The text of a file, whose byte-order mark, if any, gives the encoding and is removed.

    Without a mark it is read as UTF-16 if one of the first two bytes is 0, else as UTF-8, and as
    Latin-1, where every byte is valid, if it is not valid UTF-8. All line ends become \n.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has a mark, but goes on in another encoding.
    """
    data = Path(path).read_bytes()
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None and b"\0" in data[:2]:
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding:
            raise ValueError(f"{path} is not {encoding} throughout: save it as UTF-8") from error
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def find_file(path: Path) -> Path:
    """The file that a path means, though it may spell the file's name in another way.

    Lists and disks can differ in upper and lower case, and in the Unicode form of accented letters
    (macOS writes them as two characters).

    Returns:
        The path of the file of that name but for case and form, if there is exactly one; the path
        itself if it exists, or otherwise.
    """
    if path.exists() or not path.parent.is_dir():
        return path
    wanted = fold_name(path.name)
    found = [name for name in os.listdir(path.parent) if fold_name(name) == wanted]
    return path.with_name(found[0]) if len(found) == 1 else path


def entry_of(entries: Mapping[str, Value], name: str) -> Value | None:
    """The value of a name in any Unicode form; None if there is none."""
    composed = {unicodedata.normalize("NFC", key): value for key, value in entries.items()}
    return entries.get(name, composed.get(unicodedata.normalize("NFC", name)))


def fold_name(name: str) -> str:
    """A form of a name that is the same for names that differ only in case or Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_outputs(paths: Sequence[Path], overwrite: bool) -> None:
    """Refuses to replace files that this program did not write.

    The file of numbers, .json or .npz, lists under `RECORD` the names of all files that were
    written with it, including its own. Files that an earlier one lists may be replaced, so the
    same command can be run again.

    Args:
        paths: files or folders about to be written into one folder, the file of numbers first.
        overwrite: replace whatever there is.

    Raises:
        UserFileExistsError: one is there already and is not known to be of this program, a file is
            to be written where a folder is, or below a file.
    """
    for path in paths:
        if path.suffix and path.is_dir():
            raise UserFileExistsError(f"{path} is a folder: choose another --output")
        folder = next(above for above in path.absolute().parents if above.exists())
        if not folder.is_dir():
            raise UserFileExistsError(f"{folder} is a file, so {path} cannot be made below it")
    existing = [path for path in paths if os.path.lexists(path)]
    if overwrite or not existing:
        return
    ours = _recorded(paths[0])
    if foreign := [path for path in existing if path.name not in ours]:
        raise UserFileExistsError(
            f"{foreign[0]} exists and was not written by an earlier call: choose another --output, "
            "or --overwrite to replace it"
        )


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary name to write to, which is renamed to ``path`` at the end.

    So ``path`` is the former file or the complete new one; after an error the temporary file is
    removed. The folder is created when missing. Apart from folder and ending, the temporary name is
    ASCII.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix if path.suffix.isascii() else ""
    partial = path.parent / f".{secrets.token_hex(4)}.partial{ending}"
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.filename == str(partial):  # a name that the user has never seen
            with contextlib.suppress(AttributeError):  # errors of PyAV cannot be changed
                error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # such as where nothing can be written
            partial.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file, complete or not at all; the folder is created when missing.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as partial:
        partial.write_bytes(data)


def _recorded(path: Path) -> set[str]:
    """Names that a file of numbers lists; empty if it is not a file of this program."""
    import numpy as np  # here, because every command imports this module for its options

    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                names = arrays[RECORD].tolist()
        else:
            names = json.loads(path.read_text(encoding="utf-8"))[RECORD]
        return set(names)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return set()
