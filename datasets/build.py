"""Turns downloaded files into a TFDS data set that the training code reads.

A data set is a folder here, NAME/NAME.py, which holds one TFDS builder called NAME. Builders are
found by their folders; there is no list. A builder's `MANUAL_DOWNLOAD_INSTRUCTIONS` describe the
expected files, and `_split_generators` sets `self.report`, a `problems.Report`, and returns
`report.nonempty(...)`. One with options of its own has a parser for them, `options()`, and
`with_options(config, arguments)`, which returns the builder class. This command downloads nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock
import tensorflow_datasets as tfds

from ldeq_jax.errors import UserError, show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from problems import NothingUsable  # noqa: E402  (needs the path above)


class CannotWriteError(UserError, OSError):
    """The folder of the data sets cannot be written to."""


def main(argv: Sequence[str] | None = None) -> int:
    """Builds the data set named on the command line, or draws sample faces.

    Returns:
        0 when the data set is there at the end, 1 when nothing usable was found. Exits with 2 when
        the command line is wrong.

    Raises:
        CannotWriteError: `--data_dir` cannot be written to.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["sample_faces"]:
        return importlib.import_module("sample_faces").main(argv[1:])
    parser = _parser()
    args, others = parser.parse_known_args(argv)
    name, _, config = args.name.partition("/")
    if name not in builder_names():
        parser.error(f"no builder {name!r}; known: {', '.join(builder_names())}")
    builder_class = load_builder(name)
    if hasattr(builder_class, "with_options"):
        builder_class = builder_class.with_options(config, others)
    elif others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    if config and config not in builder_class.builder_configs:
        known = ", ".join(builder_class.builder_configs) or "none"
        parser.error(f"{name} has no config {config!r}; its configs: {known}")
    if not args.manual_dir.is_dir() or not any(args.manual_dir.iterdir()):
        layout = builder_class.MANUAL_DOWNLOAD_INSTRUCTIONS
        parser.error(f"--manual_dir={args.manual_dir} is not a folder or is empty\n{layout}")
    return build(
        builder_class,
        config or None,
        args.manual_dir,
        args.data_dir,
        args.overwrite,
        args.max_examples_per_split,
    )


def builder_names() -> list[str]:
    """Names of the folders here that contain a builder."""
    return sorted(f.name for f in HERE.iterdir() if (f / f"{f.name}.py").is_file())


def load_builder(name: str) -> type[tfds.core.GeneratorBasedBuilder]:
    """The builder class in NAME/NAME.py."""
    module = importlib.import_module(f"{name}.{name}")
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, tfds.core.GeneratorBasedBuilder)
        and value.__module__ == module.__name__
    ]
    (builder_class,) = classes
    return builder_class


def build(
    builder_class: type[tfds.core.GeneratorBasedBuilder],
    config: str | None,
    manual_dir: Path,
    data_dir: Path,
    overwrite: bool,
    max_examples_per_split: int | None = None,
) -> int:
    """Builds into a staging folder and moves the result into place in one step.

    So the data sets in `data_dir` are always complete, even if a build is killed, and a failed
    `overwrite` does not change the old data set.

    Returns:
        The exit code: 0 if the data set is in place, else 1.

    Raises:
        CannotWriteError: `data_dir` cannot be written to.
    """
    stage = data_dir / ".building"
    if not overwrite and _is_built(_target(builder_class, config, data_dir)):
        return 0  # also in a read-only folder
    with _only_build_in(data_dir):
        shutil.rmtree(stage, ignore_errors=True)
        builder = builder_class(data_dir=stage, config=config)
        target = data_dir / builder.data_path.relative_to(stage)
        if not overwrite and _is_built(target):  # by the build that this one waited for
            return 0
        try:
            settings = tfds.download.DownloadConfig(
                manual_dir=manual_dir,
                try_download_gcs=False,
                max_examples_per_split=max_examples_per_split,
            )
            with _quiet_tfds():
                builder.download_and_prepare(download_config=settings, file_format="array_record")
            _move_into_place(stage, builder.data_path, target)
        except NothingUsable:
            print(builder.report)
            print(
                f"nothing usable in {manual_dir}, nothing built. Expected there:", file=sys.stderr
            )
            print(builder.MANUAL_DOWNLOAD_INSTRUCTIONS, file=sys.stderr)
            return 1
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    if max_examples_per_split:
        builder.report.note(f"stopped after {max_examples_per_split} kept per split")
    print(builder.report)
    print(f"built: {target}")
    return 0


def _target(builder_class, config: str | None, data_dir: Path) -> Path:
    """The data set's future path, from a builder that finds nothing there."""
    nowhere = data_dir / ".nothing"
    return data_dir / builder_class(data_dir=nowhere, config=config).data_path.relative_to(nowhere)


def _is_built(target: Path) -> bool:
    """Whether the data set exists; prints a line if it does."""
    if not target.exists():
        return False
    built = tfds.builder_from_directory(target)
    counts = ", ".join(f"{s} {i.num_examples}" for s, i in built.info.splits.items())
    print(f"already built: {target} ({counts}); --overwrite rebuilds it")
    return True


def _move_into_place(stage: Path, built: Path, target: Path) -> None:
    """Only renames, so that `target` is never a half-copied or half-deleted folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    name = target.relative_to(stage.parent).parts[0]
    if (stage / name / ".config").exists():  # TFDS notes the default config there
        shutil.copytree(
            stage / name / ".config", stage.parent / name / ".config", dirs_exist_ok=True
        )
    if target.exists():
        target.rename(stage / "replaced")
    Path(built).rename(target)


@contextlib.contextmanager
def _only_build_in(data_dir: Path) -> Iterator[None]:
    """Waits for other builds into the same folder; the lock ends with its process.

    On a file system without locks nothing is locked.

    Raises:
        CannotWriteError: the folder cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        lock = filelock.FileLock(data_dir / ".building.lock")
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(lock.acquire(timeout=0))
            except filelock.Timeout:
                note = f"another build is writing to {data_dir}: waiting for it to end"
                print(note, file=sys.stderr)
                stack.enter_context(lock.acquire())
        except NotImplementedError:
            pass
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
                raise CannotWriteError(
                    f"cannot write to --data_dir={data_dir} ({error.strerror or error}): choose a "
                    "folder that you may write to"
                ) from error
        yield


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Hides what TFDS prints: unknown sizes and the staging folder. The report replaces it."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


class _TeachingParser(argparse.ArgumentParser):
    """Lists the builders and the files they expect in --help; imports them only for that."""

    def format_help(self) -> str:
        text = super().format_help() + "\ndata sets and the files they expect in --manual_dir:\n"
        for name in builder_names():
            builder_class = load_builder(name)
            configs = [f"{name}/{c}" for c in builder_class.builder_configs]
            text += f"\n{name}" + (f"  (also {', '.join(configs)})" if configs else "") + "\n"
            text += textwrap.indent(builder_class.MANUAL_DOWNLOAD_INSTRUCTIONS.strip(), "  ") + "\n"
            if hasattr(builder_class, "options"):
                _, _, usage = builder_class.options().format_help().partition("\n\n")
                text += textwrap.indent(usage, "  ")
        text += (
            "\nsample_faces\n  Not a data set: draws faces in the layout of ibug_300w, to try "
            "everything without a\n  download. See `ldeq build sample_faces --help`.\n"
        )
        return text


def _parser() -> argparse.ArgumentParser:
    parser = _TeachingParser(
        prog="ldeq build",
        description=textwrap.fill(
            "Build a TFDS data set from downloaded files, without TensorFlow. Every face or video "
            "that is left out is reported with its file. Run the command again after an "
            "interruption: it builds from the start. A finished data set is not changed.",
            width=90,
        ),
        epilog="example: ldeq build ibug_300w --manual_dir=~/downloads/300w",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    parser.add_argument("name", metavar="NAME", help="data set, or NAME/CONFIG; see below")
    parser.add_argument(
        "--manual_dir", type=_path, required=True, help="folder with the files you downloaded"
    )
    parser.add_argument(
        "--data_dir",
        type=_path,
        default=default.expanduser(),
        help="folder of the built data sets (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="rebuild the data set if it exists"
    )
    parser.add_argument(
        "--max_examples_per_split",
        type=_positive,
        metavar="N",
        help="stop each split at N examples, for a quick trial; --overwrite builds all of it later",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser().resolve()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: this user has no home directory") from error


if __name__ == "__main__":
    sys.exit(main())
