"""docs/errors.md and the error classes say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pagewarden.errors import PagewardenError, error_classes, from_wire, to_wire
from pagewarden_cli.exits import BROKEN_PIPE, INTERRUPTED

TEXT = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
SECTIONS = dict(re.findall(r"^### (\S+)\n\n(.*?)(?=^#|\Z)", TEXT, re.DOTALL | re.MULTILINE))


def test_each_error_has_its_anchor_and_none_is_invented() -> None:
    """The slug of a class is the heading of its section."""
    assert set(SECTIONS) == set(error_classes())


@pytest.mark.parametrize("slug", sorted(error_classes()))
def test_a_section_names_class_and_exit_code(slug: str) -> None:
    """It begins with both."""
    leaf = error_classes()[slug]
    assert SECTIONS[slug].startswith(f"`{leaf.__name__}`, exit code {leaf.exit_code}. ")


def test_exit_codes_tell_errors_apart() -> None:
    """One code per class, and none that means something else."""
    codes = [leaf.exit_code for leaf in error_classes().values()]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 3, INTERRUPTED, BROKEN_PIPE} & set(codes)
    assert all(code in (2, 70) or 10 <= code < 70 for code in codes)


def test_the_table_has_every_other_exit_code() -> None:
    """0, 1, 2, 3, 70, and what signals make."""
    table = {int(code) for code in re.findall(r"^\| (\d+)", TEXT, re.MULTILINE)}
    assert {0, 1, 2, 3, 10, 70, INTERRUPTED, BROKEN_PIPE} == table


def test_an_error_survives_the_way_to_another_process() -> None:
    """Class, message and hint come back; a class from a newer version becomes the base."""
    for leaf in error_classes().values():
        back = from_wire(to_wire(leaf("what and where", hint="next")))
        assert (type(back), back.message, back.hint) == (leaf, "what and where", "next")
    assert type(from_wire({"slug": "from-the-future", "message": "m"})) is PagewardenError


def test_each_class_says_in_one_sentence_what_it_means() -> None:
    """The docstring is the meaning."""
    for leaf in error_classes().values():
        assert leaf.__doc__
        assert leaf.__doc__.endswith(".")
        assert "\n" not in leaf.__doc__
