"""Who else uses a page that is used twice: a second look, over the trees that the walk did not name."""

from __future__ import annotations

from collections.abc import Sequence

from pagewarden.contracts import PageImage
from pagewarden.sqlite.owner import SECONDS, find_owners
from pagewarden.sqlite.schema import Layout, read_schema
from pagewarden.structure import Flaw, Tree

BUDGET = 10_000
"""How many pages one look may read."""

PAGES = 100
"""For how many pages other users are looked for."""


def other_users(image: PageImage, layout: Layout, trees: Sequence[Tree], flaws: Sequence[Flaw]) -> dict[int, str]:
    """Return by page who uses it beside the tree that a flaw names, where that can be found."""
    schema = read_schema(image.page, layout)
    wanted: dict[int | None, set[int]] = {}
    for flaw in flaws[:PAGES]:
        wanted.setdefault(flaw.tree, set()).add(flaw.pgno)
    users: dict[int, str] = {}
    share = max(1, len(wanted))
    for tree, pgnos in wanted.items():
        # The tree that was named is left out, so that what is found is another one.
        others = tuple(entry for entry in schema if tree is None or entry.root != trees[tree].root)
        owners = find_owners(image.page, pgnos, layout, schema=others, budget=BUDGET // share, seconds=SECONDS / share)
        for pgno, owner in owners.items():
            if tree is not None or not owner.role.startswith("freelist"):
                users[pgno] = str(owner)
    return users
