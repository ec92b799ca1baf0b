"""Settings of every test run: on the CPU, as two devices, and strict about shapes."""

import ctypes
import gc
import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Threads of NumPy's matrix products wait for each other busily; tests run side by side anyway.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402  (reads JAX_PLATFORMS when imported)
import psutil  # noqa: E402
import pytest  # noqa: E402

FAST_TO_COMPILE = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Spends less time on compiling, which is most of the time of the quick tests.

    Programs compiled once are shared by all processes of a run. Those of the quick tests run for
    moments and are compiled in the fastest way; the slow tests take all optimisations.
    """
    if config.option.markexpr == "not slow":
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update(
            "jax_disable_most_optimizations", os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1"
        )
        if jax.__version__.startswith("0.10."):  # XLA ends a process for a flag that it lacks
            os.environ.setdefault("XLA_FLAGS", FAST_TO_COMPILE)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="ldeq_jax_compiled_")
        config.add_cleanup(folder.cleanup)  # by the process that starts the others
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update(
        "jax_persistent_cache_min_compile_time_secs",
        float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]),
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Makes what a test printed fit for UTF-8, as processes send it: names of files need not be."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode("utf-8"))
        for title, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True, scope="session")
def two_cores():
    """Makes the machine one of two cores: JAX keeps the number of devices that it began with."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
        yield


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs():
    """Frees the programs of a file of tests at its end: together they take gigabytes."""
    yield
    free_memory()


@pytest.fixture(autouse=True)
def stay_small():
    """Frees compiled programs within a file that has very many."""
    yield
    if psutil.Process().memory_info().rss > 1500 * 2**20:
        free_memory()


def free_memory():
    """Gives the memory of all compiled programs back to the system."""
    jax.clear_caches()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps most of it otherwise
    if trim is not None:
        trim(0)


@pytest.fixture
def x64():
    """Runs a test in double precision."""
    with jax.enable_x64(True):
        yield
