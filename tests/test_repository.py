"""What the repository's own texts must hold: links that lead somewhere, and no one's machine."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "artifacts" / "README.md"]

# Written so that none of them matches itself.
FOREIGN = {
    "a machine's path": r"(?<![\w.~*-])/(?:root|work|opt)/\w",
    "someone's home": r"(?<![\w.~*-])/(?:home|Users)/\w|\b[A-Z]:\\Users",
    "a package registry": r"pypi\.org|pythonhosted\.org|registry\.npmjs|deb\.debian|/simple/\w",
    "notes from elsewhere": r"\bFACTS\.md|\bDESIGN\.md",
}
# Test data may speak of a home that nobody has.
INVENTED = {"someone's home"}
TESTS = ROOT / "tests"


def _tracked() -> list[Path]:
    """What git holds or would hold."""
    if not (ROOT / ".git").exists():
        return []
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({ROOT / name for name in listed.stdout.split("\0") if name})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)|^\[[^\]]+\]:\s*(\S+)", text, flags=re.MULTILINE)
    local = [
        target.partition("#")[0]
        for pair in targets
        for target in pair
        if target and not re.match(r"[a-z]+:|#", target)
    ]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_nox_sessions_that_a_page_names_exist(page: Path) -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    sessions = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list
    }
    assert {"convert", "tests"} <= sessions
    commands = re.findall(r"nox -s ((?:[a-z]+ ?)+)", page.read_text("utf-8"))
    named = {name for command in commands for name in command.split()}
    assert named <= sessions, f"{page.name}: no session {sorted(named - sessions)}"


def test_the_texts_speak_of_no_machine() -> None:
    tracked = _tracked()
    if not tracked:
        pytest.skip("not a git checkout")
    found = []
    for path in tracked:
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):  # data, or deleted and not yet committed
            continue
        found += [
            f"{path.relative_to(ROOT)}: {kind}: {match.group()!r}"
            for kind, pattern in FOREIGN.items()
            if kind not in INVENTED or TESTS not in path.parents
            for match in re.finditer(pattern, text)
        ]
    assert not found, "\n".join(found)


def test_what_is_made_here_is_not_kept_in_git() -> None:
    tracked = [path.relative_to(ROOT).as_posix() for path in _tracked()]
    if not tracked:
        pytest.skip("not a git checkout")
    assert [name for name in tracked if name.startswith("artifacts/")] == ["artifacts/README.md"]
    assert [name for name in tracked if "__pycache__" in name or name.startswith("dist/")] == []
