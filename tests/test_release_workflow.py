"""What the release workflow uploads, and that it calls what there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from converters.catalogue import NAMED

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")


def test_only_weights_whose_licence_allows_it_are_uploaded() -> None:
    (nets,) = re.findall(r"^  NETS: (.+)$", WORKFLOW, re.M)
    made = {source.netvlad_name for source in NAMED.values() if source.kind == "made"}
    assert (
        set(nets.split())
        == made
        == {
            "mini",
            "vd16_offtheshelf_conv5_3_skimage_train_vlad_preL2_intra",
        }
    )


def test_its_sessions_exist_and_come_in_order() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    sessions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.decorator_list}
    called = re.findall(r"nox -s (\w+)", WORKFLOW)
    assert called == ["convert", "verify", "release"]
    assert set(called) <= sessions


def test_what_is_proven_is_proven_without_tensorflow() -> None:
    proving = WORKFLOW.partition("  prove:")[2].partition("  upload:")[0]
    assert "find_spec('tensorflow')" in proving
    assert re.search(r"pip install .* \.$", proving, re.M)
    assert "[convert]" not in proving
