"""Oracle functions from a file of one's own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from converters.checkpoint import Array, Checkpoint, Layer, Origin
from converters.errors import ConversionError, LayerError, ReadError
from verify import oracle
from verify.operators import OPERATORS
from verify.plugins import load, operators, with_inputs

#: Space to depth by 2, and one more input for `concat`: as FFDNet has them.
FFDNET = """
import numpy as np

def subp(x, scale):
    n, h, w, c = x.shape
    x = x.reshape(n, h // scale, scale, w // scale, scale, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // scale, w // scale, -1)

ORACLE = {"SubP": subp}
INPUTS = {"concat": (("sigmas", 1),)}
KERAS = {"SubP": None}
"""


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def net(*layers: Layer, **tensors: Array) -> Checkpoint:
    return Checkpoint(tensors, layers, {}, Origin(Path("net.mat"), "matconvnet"))


# ---------------------------------------------------------------- failure paths


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has neither a table ORACLE nor INPUTS"),
        ("KERAS = {'A': print}", "has neither a table ORACLE nor INPUTS"),
        ("ORACLE = {}", "has neither a table ORACLE nor INPUTS"),
        ("ORACLE = [print]", "ORACLE is no table by the kinds' names"),
        ("ORACLE = {1: print}", "ORACLE is no table by the kinds' names"),
        ("ORACLE = {'A': 'B', 'C': 2}", "ORACLE['A'] is no function; ORACLE['C'] is no function"),
        ("ORACLE = {'A': lambda: 0}", "ORACLE['A'] is no function"),
        ("INPUTS = 'sigmas'", "INPUTS is no table by the kinds' names"),
        ("INPUTS = {'A': 'sigmas'}", "INPUTS['A'] is 'sigmas', not a tuple of (name, channels)"),
        ("INPUTS = {'A': ('sigmas', 1)}", "INPUTS['A'] is ('sigmas', 1), not a tuple of (name"),
        ("INPUTS = {'A': (('sigmas', 0),)}", "INPUTS['A'] is (('sigmas', 0),)"),
        ("INPUTS = {'A': (('sigmas', 1.5),)}", "INPUTS['A'] is (('sigmas', 1.5),)"),
    ],
)
def test_a_file_without_such_tables_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=re.escape(reason)) as caught:
        load(written(tmp_path, text))
    assert caught.value.path == str(tmp_path / "mine.py")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ORACLE = {", "cannot be run: SyntaxError"),
        ("import no_such_module", "cannot be run: ModuleNotFoundError: No module named"),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_cannot_be_run(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=re.escape(reason)):
        load(written(tmp_path, text))


@pytest.mark.parametrize("name", ["mine.txt", "mine"])
def test_a_file_of_another_kind(name: str, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="is not a Python file"):
        load(written(tmp_path, "ORACLE = {}", name))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"mine\.py: does not exist"):
        load(tmp_path / "mine.py")


def test_two_plugins_of_one_kind(tmp_path: Path) -> None:
    plugin = load(written(tmp_path, "ORACLE = {'A': lambda x: x, 'B': lambda x: x}"))
    with pytest.raises(ConversionError, match="another plugin has A, B too"):
        operators([plugin, plugin])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("x[0, 9]", "failed: IndexError: index 9 is out of bounds"),
        ("1 / 0", "failed: ZeroDivisionError"),
        ("'text'", "gave <U4 (), not N×H×W×C or N×D numbers"),
        ("x[0]", "gave float64 (2, 3, 1), not N×H×W×C"),
        ("x * 1j", "gave complex128 (1, 2, 3, 1), not"),
    ],
)
def test_a_function_s_mistake_is_its_layer_s(body: str, reason: str, tmp_path: Path) -> None:
    plugin = load(written(tmp_path, f"ORACLE = {{'A': lambda x: {body}}}"))
    with pytest.raises(LayerError, match=re.escape(reason)) as caught:
        oracle.run(net(Layer("a", "A", ("x",))), np.ones((2, 3, 1)), operators=operators([plugin]))
    assert list(caught.value.faults) == ["a"]


def test_a_setting_that_is_missing_is_told_before_anything_runs(tmp_path: Path) -> None:
    plugin = load(written(tmp_path, FFDNET))
    with pytest.raises(LayerError, match="missing a required argument: 'scale'"):
        oracle.execute(
            net(Layer("a", "SubP", ("x",))), np.ones((2, 2, 1)), operators=operators([plugin])
        )


def test_nothing_is_loaded_unasked() -> None:
    with pytest.raises(LayerError, match="does not know its type 'SubP'"):
        oracle.execute(net(Layer("a", "SubP", ("x",))), np.ones((2, 2, 1)))


# ---------------------------------------------------------------- what it adds


def test_ffdnet_runs_with_its_plugin(tmp_path: Path) -> None:
    plugin = load(written(tmp_path, FFDNET))
    assert plugin.inputs == {"concat": (("sigmas", 1),)}
    checkpoint = with_inputs(
        net(
            Layer("down", "SubP", ("input",), (), {"scale": 2}),
            Layer("both", "concat", ("down",), (), {"dim": 3}),
            Layer("conv", "conv", ("both",), ("f",)),
            f=np.array([1.0, 10.0, 100.0, 1000.0, 0.5]).reshape(1, 1, 5, 1),
        ),
        [plugin],
    )
    assert checkpoint.layers[1].inputs == ("down", "sigmas")
    feeds = {
        "input": np.arange(1.0, 9.0).reshape(1, 2, 4, 1),
        "sigmas": np.full((1, 1, 2, 1), 8.0),
    }
    outputs = oracle.run(checkpoint, feeds, operators=operators([plugin]))
    assert outputs["down"].tolist() == [[[[1, 2, 5, 6], [3, 4, 7, 8]]]]
    assert outputs["both"].shape == (1, 1, 2, 5)
    assert outputs["conv"].ravel().tolist() == [6525.0, 8747.0]


def test_inputs_are_added_once(tmp_path: Path) -> None:
    plugin = load(written(tmp_path, FFDNET))
    checkpoint = net(Layer("both", "concat", ("input", "sigmas")))
    assert with_inputs(checkpoint, [plugin, plugin]) == checkpoint


@pytest.mark.parametrize(
    "signature",
    ["x, k, *, power, **rest", "x, *weights, **options", "x, k, power", "x, k, power=7"],
)
def test_settings_go_by_name(signature: str, tmp_path: Path) -> None:
    names = {"x, *weights, **options": ("weights[0]", "options['power']")}
    k, power = names.get(signature, ("k", "power"))
    text = f"def mine({signature}):\n    return x * {k} ** {power}\nORACLE = {{'Mine': mine}}"
    plugin = load(written(tmp_path, text))
    checkpoint = net(Layer("a", "Mine", ("x",), ("k",), {"power": 2}), k=np.array([3.0]))
    y = oracle.run(checkpoint, np.ones((1, 1, 1)), operators=operators([plugin]))["a"]
    assert y.item() == 9.0


def test_the_precision_of_the_data_is_kept(tmp_path: Path) -> None:
    text = "import numpy as np\nORACLE = {'A': lambda x: x * np.float64(0.1)}"
    functions = operators([load(written(tmp_path, text))])
    y = oracle.run(
        net(Layer("a", "A", ("x",))), np.ones((1, 1, 1)), np.float32, operators=functions
    )
    assert y["a"].dtype == np.float32


def test_a_plugin_stands_before_matconvnet(tmp_path: Path) -> None:
    functions = operators([load(written(tmp_path, "ORACLE = {'relu': lambda x: x + 1}"))])
    assert functions["relu"](np.zeros((1, 1, 1, 1))).item() == 1.0
    assert {kind: functions[kind] for kind in OPERATORS if kind != "relu"} == {
        kind: OPERATORS[kind] for kind in OPERATORS if kind != "relu"
    }
