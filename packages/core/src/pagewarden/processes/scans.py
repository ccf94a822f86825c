"""Plans and steps of structure walks as plain values, for the way between the reader and its client.

Names stay with the client: the reader needs none. A column is one byte: two bits of collation, one each for descending,
NOT NULL and rowid, three of the type in a STRICT table. So a plan grows with the schema and by no more, and the largest
one that is taken is bounded on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pagewarden.pages.walk import WalkPlan
from pagewarden.processes.channel import Value
from pagewarden.structure import Collation, Column, Flaw, FlawKind, StrictType, StructureStep, Tree

MAX_TREES = 1_000_000
"""How many trees one walk may be asked for."""

MAX_COLUMNS = 4_000_000
"""How many columns all trees of one walk may have together."""

_FLAW = ("pgno", "tree", "cell", "column", "other", "rowid", "expected", "seen")


def plan_to_wire(plan: WalkPlan) -> dict[str, Value]:
    """Return `plan` as plain values. Raises ValueError for one that is too large."""
    trees: list[Value] = []
    columns = 0
    for tree in plan.trees:
        columns += len(tree.columns)
        trees.append([tree.root, tree.index, tree.keys, bytes(map(_pack, tree.columns))])
    _bounded(len(trees), columns)
    return {
        "page_size": plan.page_size,
        "usable": plan.usable,
        "pages": plan.pages,
        "encoding": plan.encoding,
        "pointer_map": plan.pointer_map,
        "trees": trees,
    }


def plan_from_wire(value: Mapping[str, Any]) -> WalkPlan:
    """Return what `plan_to_wire` described, without names. Raises ValueError for nonsense."""
    _bounded(len(value["trees"]), sum(len(columns) for _, _, _, columns in value["trees"]))
    shapes: dict[bytes, tuple[Column, ...]] = {}
    trees = []
    for root, index, keys, columns in value["trees"]:
        if columns not in shapes:
            shapes[columns] = tuple(map(_unpack, columns))
        trees.append(Tree(name="", root=root, index=index, keys=keys, columns=shapes[columns]))
    return WalkPlan(**{**value, "trees": tuple(trees)})


def step_to_wire(step: StructureStep) -> dict[str, Value]:
    """Return `step` as plain values."""
    return {
        "flaws": [[int(flaw.kind), *(getattr(flaw, name) for name in _FLAW)] for flaw in step.flaws],
        "pages": step.pages,
        "reached": step.reached,
        "done": step.done,
        "left_out": step.left_out,
        "unordered": step.unordered,
        "walked": step.walked,
    }


def step_from_wire(value: Mapping[str, Any]) -> StructureStep:
    """Return what `step_to_wire` described. Raises ValueError or TypeError for nonsense."""
    flaws = tuple(
        Flaw(kind=FlawKind(kind), **dict(zip(_FLAW, fields, strict=True))) for kind, *fields in value["flaws"]
    )
    return StructureStep(**{**value, "flaws": flaws})


def _bounded(trees: int, columns: int) -> None:
    if trees > MAX_TREES or columns > MAX_COLUMNS:
        raise ValueError(f"a walk over {trees} trees with {columns} columns is too large")


def _pack(column: Column) -> int:
    flags = column.descending << 2 | column.not_null << 3 | column.rowid << 4
    return column.collation | flags | column.strict << 5


@cache
def _unpack(packed: int) -> Column:
    return Column(
        collation=Collation(packed & 3),
        descending=bool(packed >> 2 & 1),
        not_null=bool(packed >> 3 & 1),
        rowid=bool(packed >> 4 & 1),
        strict=StrictType(packed >> 5),
    )
