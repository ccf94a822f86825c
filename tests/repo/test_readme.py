"""What the README tells people to type is what the project runs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def sessions() -> set[str]:
    """Return the names of the noxfile's sessions."""
    text = (ROOT / "noxfile.py").read_text()
    return set(re.findall(r"@nox\.session[^\n]*\ndef (\w+)", text))


def test_the_ci_runs_the_test_command_of_the_readme() -> None:
    """`.ci/run` calls the very test command that the README names."""
    command = "python3 -m pip install nox && nox -s tests"
    assert command in README
    assert command in (ROOT / ".ci/run").read_text().splitlines()


def test_every_session_that_is_named_exists() -> None:
    """Each `nox -s NAME` of the documents is a session of the noxfile."""
    known = sessions()
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for words in re.findall(r"nox -s ([a-z ]+)", document.read_text()):
            assert set(words.split()) <= known, (document, words)


def test_the_documents_that_are_linked_exist() -> None:
    """Each relative link of the README and of the documents leads somewhere."""
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / link).exists(), (document, link)
