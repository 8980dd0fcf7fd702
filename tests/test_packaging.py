"""What an installation is: its requirements, its commands, and how little an import costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("netvlad_keras", "converters", "verify")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]

HEAVY = (
    "faiss",
    "h5py",
    "keras",
    "matio",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pandas",
    "pooch",
    "pyarrow",
    "scipy.io",
    "sklearn",
    "tensorflow",
    "tf2onnx",
    "torch",
)

# Each is run as `python -m`, and prints its help.
COMMANDS: dict[str, tuple[str, ...]] = {
    "converters": ("convert", "back", "inspect", "sources"),
    "converters.mcn2onnx": (),
    "netvlad_keras": ("describe", "search", "evaluate"),
    "netvlad_keras.train": (),
    "verify": ("check", "diff", "images"),
}

_HELP = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
"""


def _heavy_after(code: str, *arguments: str) -> set[str]:
    """Which heavy libraries a fresh process holds after running `code`."""
    report = "\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    finished = subprocess.run(
        [sys.executable, "-c", code + report, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return set(json.loads(finished.stdout.splitlines()[-1])) & set(HEAVY)


def test_the_check_sees_a_heavy_import() -> None:
    assert "h5py" in _heavy_after("import h5py")


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_stays_light(package: str) -> None:
    assert _heavy_after(f"import {package}") == set()


@pytest.mark.parametrize(
    ("module", "command"),
    [(module, command) for module, names in COMMANDS.items() for command in ((), *names)],
)
def test_help_stays_light(module: str, command: str | tuple[()]) -> None:
    words = [command] if command else []
    assert _heavy_after(_HELP, module, *words, "--help") == set()


def test_every_command_has_its_script_and_its_row() -> None:
    runnable = {package for package in PACKAGES if (ROOT / package / "__main__.py").is_file()}
    assert runnable == {module for module in COMMANDS if "." not in module}
    targets = [target.partition(":")[0] for target in PROJECT["scripts"].values()]
    assert {target.removesuffix(".__main__") for target in targets} == set(COMMANDS)


def test_our_packages_are_found_from_an_empty_folder(tmp_path: Path) -> None:
    """`converters` and `verify` are also import names of other distributions."""
    try:
        distribution("netvlad-keras")
    except PackageNotFoundError:
        pytest.skip("netvlad-keras is not installed in this environment; nox's sessions install it")
    code = f"import {', '.join(PACKAGES)}; print({', '.join(f'{p}.__file__' for p in PACKAGES)})"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    places = [Path(place).parent for place in finished.stdout.split()]
    assert places == [ROOT / package for package in PACKAGES]


# Requirements and the tested versions.

PINS = {
    canonicalize_name(pin.name): pin
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
    for pin in [Requirement(line)]
}
GROUPS: dict[str, list[Any]] = {
    "base": PROJECT["dependencies"],
    **PROJECT["optional-dependencies"],
    **PYPROJECT["dependency-groups"],
}


@pytest.mark.parametrize("group", GROUPS)
def test_every_requirement_has_a_tested_version(group: str) -> None:
    wanted = [Requirement(text) for text in GROUPS[group] if isinstance(text, str)]
    for requirement in wanted:
        if requirement.name in ("netvlad-keras", "pip"):  # pip cannot well replace itself
            continue
        (pin,) = PINS[canonicalize_name(requirement.name)].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), f"{requirement}: {pin}"


def test_the_base_is_light() -> None:
    base = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert not base & {"tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "mat-io", "torch"}


@pytest.mark.parametrize(
    ("platform", "machine", "expected"),
    [
        ("linux", "x86_64", "tensorflow-cpu"),
        ("linux", "aarch64", "tensorflow"),
        ("darwin", "arm64", "tensorflow"),
        ("win32", "AMD64", "tensorflow"),
    ],
)
def test_one_tensorflow_on_every_platform(platform: str, machine: str, expected: str) -> None:
    environment = {"sys_platform": platform, "platform_machine": machine}
    requirements = [Requirement(text) for text in PROJECT["optional-dependencies"]["keras"]]
    chosen = [
        each.name for each in requirements if each.marker and each.marker.evaluate(environment)
    ]
    assert chosen == [expected]


def test_the_noxfile_names_tests_that_exist() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    (named,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id == "NEEDS_TENSORFLOW"
        and node.value is not None
    )
    assert [path for path in named if not (ROOT / path).exists()] == []
