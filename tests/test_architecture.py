"""Who may import whom, and how long things may get, read from the source with ast."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("netvlad_keras", "converters", "verify")

# What of ours a module may import; the longest row that fits it counts, and rows and
# entries cover everything below them. A new module of converters needs a row.
CHECKPOINT = ("converters.checkpoint", "converters.errors")
SPEC = (*CHECKPOINT, "netvlad_keras.net", "netvlad_keras.spec", "netvlad_keras.trunks")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "netvlad_keras": ("netvlad_keras",),
    "converters": (),
    # what everything else stands on
    "converters.checkpoint": (),
    "converters.errors": (),
    "converters.layermap": CHECKPOINT,
    "converters.formats": (*CHECKPOINT, "converters.sandbox"),
    "converters.plausible": CHECKPOINT,
    "converters.children": CHECKPOINT,
    "converters.sandbox": (
        *CHECKPOINT,
        "converters.plausible",
        "converters.readers.memory",
        "converters.sandbox",
    ),
    "converters.staging": CHECKPOINT,
    "converters.imagenet_vgg16": SPEC,
    # the two sides, and the tables between them
    "converters.maps": ("converters.layermap", "converters.maps"),
    "converters.readers": (*CHECKPOINT, "converters.readers"),
    "converters.readers.keras_h5": (
        *CHECKPOINT,
        "converters.readers",
        "netvlad_keras.spec",
        "netvlad_keras.weights",
    ),
    "converters.writers": ("converters.errors", "converters.writers", "netvlad_keras.spec"),
    "converters.writers.sources": (*CHECKPOINT, "converters.writers.sources"),
    # what knows NetVLAD, but neither side
    "converters.recognise": (*SPEC, "converters.recognise_weights"),
    "converters.recognise_weights": SPEC,
    "converters.compose": SPEC,
    "converters.mini": (*SPEC, "converters.compose"),
    "converters.offtheshelf": (*SPEC, "converters.compose", "converters.imagenet_vgg16"),
    "converters.data": ("converters", "netvlad_keras"),  # scripts, run by hand
    "converters.handoff": SPEC,
    "converters.contract": (*SPEC, "converters.handoff"),
    "converters.build": (
        *SPEC,
        "converters.handoff",
        "netvlad_keras.graph",
        "netvlad_keras.model",
    ),
    "converters.manifest": (
        *SPEC,
        "converters.contract",
        "converters.convert",
        "converters.formats",
        "converters.handoff",
    ),
    # any net
    "converters.plugins": CHECKPOINT,
    "converters.transform": CHECKPOINT,
    "converters.net": (
        *SPEC,
        "converters.layermap",
        "converters.maps",
        "converters.plugins",
    ),
    # the pipeline and what calls it
    "converters.produce": (
        *SPEC,
        "converters.build",
        "converters.formats",
        "converters.handoff",
        "converters.plugins",
        "converters.writers",
        "netvlad_keras.graph",
    ),
    "converters.convert": ("converters", "netvlad_keras"),
    "converters.derive": (
        "converters.errors",
        "converters.formats",
        "converters.writers",
        "netvlad_keras.decoding",
        "netvlad_keras.errors",
        "netvlad_keras.preprocess",
    ),
    "converters.original": ("converters", "netvlad_keras"),
    "converters.back": ("converters", "netvlad_keras"),
    # where weights come from
    "converters.catalogue": (),
    "converters.cache": ("converters.catalogue", "converters.errors"),
    "converters.transfer": ("converters.catalogue", "converters.errors"),
    "converters.download": (
        "converters.cache",
        "converters.catalogue",
        "converters.errors",
        "converters.transfer",
    ),
    "converters.archive": (
        "converters.cache",
        "converters.catalogue",
        "converters.download",
        "converters.errors",
    ),
    "converters.made": (
        *CHECKPOINT,
        "converters.cache",
        "converters.catalogue",
        "converters.children",
        "converters.imagenet_vgg16",
        "converters.mini",
        "converters.offtheshelf",
        "converters.writers",
    ),
    "converters.sources": (
        "converters.cache",
        "converters.catalogue",
        "converters.errors",
        "converters.imagenet_vgg16",
    ),
    "converters.inspect": (*CHECKPOINT, "converters.formats", "converters.recognise"),
    "converters.supported": (),
    "converters.mcn2onnx": ("converters",),
    "converters.report": ("converters.manifest",),
    "converters.release": ("converters", "netvlad_keras"),
    "converters.release_page": (
        "converters.errors",
        "converters.manifest",
        "converters.release_page_runtime",
        "converters.release_page_verdict",
    ),
    "converters.release_page_runtime": (
        "converters.cache",
        "converters.catalogue",
        "converters.download",
        "converters.errors",
        "converters.sources",
    ),
    "converters.release_page_verdict": (),
    "converters.trust": ("converters.sandbox",),
    "converters.__main__": ("converters",),
    "verify": ("verify", *CHECKPOINT, "converters.sandbox", "converters.trust"),
    # the gate feeds the same bytes as every consumer
    "verify.images": ("verify", *CHECKPOINT, "netvlad_keras.preprocess"),
    # and what is tried on somebody's descriptor begins with them
    "verify.decoders": ("verify", *CHECKPOINT, "netvlad_keras.preprocess"),
    "verify.described": ("verify", *CHECKPOINT, "netvlad_keras.preprocess"),
    "verify.explain": ("verify", *CHECKPOINT, "netvlad_keras.preprocess"),
    "verify.hypotheses": ("verify", *CHECKPOINT, "netvlad_keras.preprocess"),
}

# A bug there would stand on both sides of the comparison and cancel out.
NOT_FOR_THE_WITNESS = (
    "converters.convert",
    "converters.layermap",
    "converters.maps",
    "converters.writers",
)

HEAVY = {
    "faiss",
    "h5py",
    "keras",
    "matio",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxslim",
    "pooch",
    "pyarrow",
    "sklearn",
    "tensorflow",
    "tf2onnx",
    "torch",
}

# The house rule is 250 lines, 40 lines and 6 parameters; past these it is broken.
MODULE_LINES = 270
FUNCTION_LINES = 50
PARAMETERS = 7


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {_name(path): path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))}
SCRIPTS = [ROOT / "noxfile.py", *sorted((ROOT / "benchmarks").rglob("*.py"))]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def _within(name: str, rows: tuple[str, ...]) -> bool:
    return any(name == row or name.startswith(f"{row}.") for row in rows)


def _imported(module: str) -> Iterator[str]:
    """Full names of what a module imports anywhere in it; of ours down to the module."""
    package = module if SOURCES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(_tree(SOURCES[module])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in SOURCES else base


def _imported_ours(module: str) -> set[str]:
    return {name for name in _imported(module) if _within(name, OURS)}


def _allowed(module: str) -> tuple[str, ...] | None:
    rows = [row for row in MAY_IMPORT if _within(module, (row,))]
    row = max(rows, key=len, default="")
    if row == "converters" and module != "converters":
        return None
    return MAY_IMPORT.get(row)


def _reached(module: str) -> set[str]:
    """Everything of ours that importing a module may bring, over any number of imports."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in SOURCES and name not in reached:
            reached.add(name)
            waiting += _imported_ours(name)
    return reached


def test_the_three_packages_are_seen() -> None:
    assert set(OURS) <= SOURCES.keys()
    assert _imported_ours("converters.layermap") == {"converters.checkpoint", "converters.errors"}


@pytest.mark.parametrize("module", SOURCES)
def test_imports_keep_to_the_table(module: str) -> None:
    allowed = _allowed(module)
    assert allowed is not None, f"{module} has no row in MAY_IMPORT"
    strangers = {name for name in _imported_ours(module) if not _within(name, allowed)}
    assert not strangers, f"{module} imports {sorted(strangers)}; it may import {allowed}"


@pytest.mark.parametrize("module", [name for name in SOURCES if _within(name, ("verify",))])
def test_the_witness_never_reaches_what_it_checks(module: str) -> None:
    assert not {name for name in _reached(module) if _within(name, NOT_FOR_THE_WITNESS)}
    by_name = {
        node.value
        for node in ast.walk(_tree(SOURCES[module]))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not {text for text in by_name if _within(text, NOT_FOR_THE_WITNESS)}


def test_only_convert_knows_both_sides() -> None:
    sides = ("converters.readers", "converters.writers")
    both = {
        module
        for module in SOURCES
        if all(any(_within(name, (side,)) for name in _imported_ours(module)) for side in sides)
    }
    assert both <= {"converters.convert"}


def test_maps_know_rule_alone() -> None:
    taken = {
        alias.name
        for module, path in SOURCES.items()
        if _within(module, ("converters.maps",))
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ImportFrom) and node.module == "converters.layermap"
        for alias in node.names
    }
    assert taken <= {"Rule"}


@pytest.mark.parametrize("module", SOURCES)
def test_heavy_libraries_are_imported_at_the_top(module: str) -> None:
    tree = _tree(SOURCES[module])
    top = {node for node in ast.walk(tree) if getattr(node, "col_offset", 1) == 0}
    late = [
        f"line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in top
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
        if name.partition(".")[0] in HEAVY
    ]
    assert not late, f"{module}: {late}; reach the module that needs it by name instead"


@pytest.mark.parametrize("path", [*SOURCES.values(), *SCRIPTS], ids=lambda path: path.stem)
def test_modules_and_functions_stay_short(path: Path) -> None:
    faults = []
    if (lines := len(path.read_text("utf-8").splitlines())) > MODULE_LINES:
        faults.append(f"{lines} lines")
    for node in ast.walk(_tree(path)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        parameters = [each.arg for each in arguments if each.arg not in ("self", "cls")]
        if length > FUNCTION_LINES:
            faults.append(f"{node.name}: {length} lines")
        if len(parameters) > PARAMETERS:
            faults.append(f"{node.name}: {len(parameters)} parameters")
    assert not faults, f"{path.relative_to(ROOT)}: {faults}"
