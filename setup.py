"""Adds the builders of data sets to a wheel; setup.cfg describes everything else."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithBuilders(build_py):
    """Copies datasets/ to ldeq_jax/builders/, where `ldeq build` looks for it."""

    def run(self):
        """Builds the package, then adds the files."""
        super().run()
        if self.editable_mode:  # a checkout has the folder itself
            return
        for file in Path("datasets").rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                target = Path(self.build_lib, "ldeq_jax", "builders", *file.parts[1:])
                self.mkpath(str(target.parent))
                self.copy_file(str(file), str(target))


setup(cmdclass={"build_py": BuildWithBuilders})
