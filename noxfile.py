"""Every task of the project, each in an environment that it makes itself: `nox -s NAME`.

Environments are kept and brought up to date at each run (`-R` leaves them as
they are). Installs go through uv where it is found, else through pip; both keep
what they have downloaded, so TensorFlow is fetched once for all environments.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "uv|virtualenv"

ROOT = Path(__file__).parent
PACKAGES = ("netvlad_keras", "converters", "verify")

# Tests that need TensorFlow or what comes with it. All others must pass where it is absent.
NEEDS_TENSORFLOW: tuple[str, ...] = (
    "tests/converters/test_any_net.py",
    "tests/converters/test_cli_convert.py",
    "tests/converters/test_convert.py",
    "tests/converters/test_derive.py",
    "tests/converters/test_release.py",
    "tests/converters/test_release_page_browser.py",
    "tests/converters/writers/sources/test_netvlad_tf.py",
    "tests/netvlad_keras/test_clusters.py",
    "tests/netvlad_keras/test_engines.py",
    "tests/netvlad_keras/test_loss.py",
    "tests/netvlad_keras/test_model.py",
    "tests/netvlad_keras/test_torch.py",
    "tests/netvlad_keras/test_train.py",
    "tests/netvlad_keras/test_weights.py",
    "tests/netvlad_keras/test_whitening.py",
    "tests/fuzz/test_fuzz.py",
    "tests/heavy",
    "tests/test_readme.py",
    "tests/verify/mutations",
    "tests/verify/runners",
    "tests/verify/test_any_net.py",
    "tests/verify/test_check.py",
    "tests/verify/test_diff_foreign.py",
    "tests/verify/test_images_command.py",
    "tests/verify/test_proof_onnx.py",
    "tests/verify/test_third_party.py",
)

# A module's tests stay together: they share what is costly to make.
WORKERS = ("-n", "2", "--dist", "loadfile")

# Heavy: they have their own session.
MUTATIONS = "tests/verify/mutations"

# The newest OpenCV, and an older one that goes with today's NumPy.
OPENCV = ("4.10.0.84", "5.0.0.93")

# What the light environment must not have, or its tests would prove nothing.
HEAVY = ("keras", "matio", "tensorflow", "tf2onnx")


@nox.session
def convert(session: nox.Session) -> None:
    """Convert: `nox -s convert -- --source PATH|NAME` (without arguments: off-the-shelf, mini)."""
    _install(session, ".[convert]", "benchmarks")  # which run in this environment
    # Off-the-shelf last: the last line says what it is.
    for arguments in [session.posargs] if session.posargs else [["--source", "mini"], []]:
        session.run("python", "-m", "converters", "convert", *arguments)


@nox.session
def tests(session: nox.Session) -> None:
    """The default test run; arguments go to pytest."""
    _install(session, ".[all]", "tests", "pictures")
    _ground_truth(session)
    session.run("pytest", *WORKERS, f"--ignore={MUTATIONS}", *session.posargs)


@nox.session
def light(session: nox.Session) -> None:
    """What does not need TensorFlow, tested where TensorFlow is not installed."""
    _install(session, ".", "tests")
    _ground_truth(session)
    found = "' '.join(filter(importlib.util.find_spec, sys.argv[1:]))"
    session.run("python", "-c", f"import importlib.util, sys; sys.exit({found} or 0)", *HEAVY)
    ignored = [f"--ignore={path}" for path in NEEDS_TENSORFLOW]
    session.run("pytest", *WORKERS, *ignored, *session.posargs)


@nox.session(venv_backend="virtualenv")
def torch(session: nox.Session) -> None:
    """The model on Keras's torch backend, where TensorFlow is not installed.

    By pip even where uv is found: pip also looks where its own configuration
    points, for a build of torch without CUDA say, and uv does not.
    """
    _install(session, ".", "tests", extra=("keras", "torch"))
    session.env["KERAS_BACKEND"] = "torch"
    session.run("python", "-c", "import keras, torch")  # present, so that no test is skipped
    ignored = [f"--ignore={path}" for path in NEEDS_TENSORFLOW if "torch" not in path]
    session.run("pytest", "-m", "torch", *ignored, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: rules and formatting."""
    _install(session, None, "lint")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict on code and tests."""
    _install(session, ".", "types")
    session.run("mypy", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """sdist and wheel into dist/, and a look at what they hold."""
    _install(session, None, "build")
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist))
    (wheel,) = dist.glob("*.whl")
    _check_wheel(session, wheel)
    session.install("--force-reinstall", "--no-deps", str(wheel))
    with tempfile.TemporaryDirectory() as empty, session.chdir(empty):
        for package in PACKAGES:
            where = f"import {package}, pathlib; print(pathlib.Path({package}.__file__).parent)"
            found = str(session.run("python", "-c", where, silent=True)).strip()
            if not Path(found).is_relative_to(session.virtualenv.location):
                session.error(f"import {package} took {found}, which is not the wheel's")


@nox.session(venv_backend="none")
def verify(session: nox.Session) -> None:
    """Everything under artifacts/ against its source, layer by layer; writes the reports."""
    _run_in_convert(session, "-m", "verify", "check", *(session.posargs or ["artifacts"]))


@nox.session
def mutations(session: nox.Session) -> None:
    """Planted faults: each must be caught, and charged to its layer and cause. Prints the score."""
    _install(session, ".[convert]", "tests")
    session.run("pytest", "-s", MUTATIONS, *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Mutated files through every reader: `nox -s fuzz -- --count 20000` or `--seconds 600`."""
    _install(session, ".[convert]", "tests")
    with session.chdir("tests"):
        session.run("python", "-m", "fuzz", *session.posargs)


@nox.session
def kills(session: nox.Session) -> None:
    """`convert`, killed and on full disks: `nox -s kills -- --kills 200 --disks 40 --pairs 5`."""
    _install(session, ".[convert]", "tests")
    session.run("python", "tests/heavy/kills.py", *session.posargs)


@nox.session
def cpp(session: nox.Session) -> None:
    """examples/cpp, built and compared: `nox -s cpp`, or `nox -s cpp -- DIR` with the headers."""
    if not sys.platform.startswith("linux"):
        session.error("this session knows the names that libraries have on Linux")
    _install(session, ".[convert]", "tests", extra=("cmake==4.4.5", "ninja==1.13.2"))
    folder = (session.cache_dir / "onnxruntime").resolve()
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    headers = Path(session.posargs[0] if session.posargs else folder / "include").resolve()
    if not session.posargs:
        session.run("python", "examples/cpp/headers.py", str(headers))
    where = "import onnxruntime; print(*onnxruntime.__path__)"
    package = Path(str(session.run("python", "-c", where, silent=True)).strip())
    (library,) = package.glob("capi/libonnxruntime.so.1*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        shutil.copy2(library, folder / "lib" / name)
    options = ("--fresh", "-GNinja", "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_PREFIX_PATH={folder}")
    build = _describe_program(session).parent
    include = f"-DONNXRUNTIME_INCLUDE={headers}"
    session.run("cmake", "-S", "examples/cpp", "-B", str(build), *options, include)
    session.run("cmake", "--build", str(build))
    session.env["DESCRIBE_PROGRAM"] = str(_describe_program(session))
    session.run("pytest", "tests/examples/test_cpp.py")


@nox.session
def runtimes(session: nox.Session) -> None:
    """OpenCV and OpenVINO beside ONNX Runtime, and C++ where `cpp` built it; prints the table."""
    _install(session, ".[convert]", "tests", extra=("openvino==2026.4.1",))
    if _describe_program(session).exists():
        session.env["DESCRIBE_PROGRAM"] = str(_describe_program(session))
    for version in OPENCV:
        session.install("--no-deps", f"opencv-python-headless=={version}")
        session.run("python", "-c", "import cv2, openvino")  # present, so that no test is skipped
        session.run("pytest", "-s", "tests/examples/test_runtimes.py", *session.posargs)


@nox.session(venv_backend="none")
def release(session: nox.Session) -> None:
    """Lay out what people download in artifacts/release/, from what `convert` made."""
    _run_in_convert(session, "-m", "converters.release", *session.posargs)


@nox.session(venv_backend="none")
def benchmarks(session: nox.Session) -> None:
    """`nox -s benchmarks -- NAME …` runs benchmarks/NAME.py (`convert` where none is given)."""
    name, *arguments = session.posargs or ["convert"]
    _run_in_convert(session, f"benchmarks/{name}.py", *arguments)


def _run_in_convert(session: nox.Session, *arguments: str) -> None:
    """Run Python in the environment that `convert` made."""
    folder = session.env_dir.parent / "convert"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        session.error(f"{folder} is not there yet: run `nox -s convert` first")
    session.run(str(python), *arguments, external=True)


def _describe_program(session: nox.Session) -> Path:
    """Where `cpp` builds the C++ example."""
    return (session.cache_dir / "cpp" / "describe").resolve()


def _ground_truth(session: nox.Session) -> None:
    """Patch-NetVLAD's wheel for the positions that are in it; none of what it asks for is used."""
    session.install("--no-deps", "patchnetvlad==0.1.8")


def _install(
    session: nox.Session, project: str | None, *groups: str, extra: tuple[str, ...] = ()
) -> None:
    """The project, editable, with groups of pyproject.toml, all at the tested versions."""
    if project and "[" in project and sys.version_info >= (3, 14):
        session.error(
            "TensorFlow 2.21 has wheels for Python 3.11 to 3.13 and this is "
            f"{sys.version_info.major}.{sys.version_info.minor}: run nox under one of those"
        )
    table = nox.project.load_toml("pyproject.toml")
    wanted = [*extra, *(nox.project.dependency_groups(table, *groups) if groups else ())]
    editable = ["--editable", project] if project else []
    session.install("--constraint", "constraints.txt", *editable, *wanted)


def _check_wheel(session: nox.Session, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    if tops != {*PACKAGES, info}:
        session.error(f"{wheel.name} holds {sorted(tops)}; {sorted(PACKAGES)} are expected")
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if missing := ours - set(names):
        session.error(f"{wheel.name} lacks {sorted(missing)}")
