"""Presets: how an application talks to its database, and how the guard checkpoints beside it, as values.

The numbers of docs/wal.md are measured by tests/benchmarks/presets.py. None of the presets uses synchronous=OFF: what a
power loss leaves of such a database can be damage, and no speed is worth that to those who use this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from pagewarden.wal.durability import Synchronous
from pagewarden.wal.policy import CheckpointPolicy

if TYPE_CHECKING:
    from pagewarden.config import WalSettings

PresetName = Literal["safe", "balanced", "fast"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One choice between what is kept and how fast it is."""

    name: PresetName
    why: str  # whom it is for, as a clause
    synchronous: Synchronous
    autocheckpoint: int  # wal_autocheckpoint: pages in the log after which a commit checkpoints; 0: never
    journal_size_limit: int  # bytes that the -wal file is cut to when the log restarts
    busy_timeout: int  # milliseconds that a connection waits for a lock
    policy: CheckpointPolicy  # of the guard

    def pragmas(self) -> tuple[tuple[str, str], ...]:
        """Return the settings of an application's connection, in the order in which they are set."""
        return (
            ("journal_mode", "wal"),
            ("synchronous", self.synchronous),
            ("wal_autocheckpoint", str(self.autocheckpoint)),
            ("journal_size_limit", str(self.journal_size_limit)),
            ("busy_timeout", str(self.busy_timeout)),
        )


PRESETS: dict[PresetName, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="safe",
            why="each commit survives a power loss",
            synchronous="full",
            autocheckpoint=1000,
            journal_size_limit=64 << 20,
            busy_timeout=10_000,
            policy=CheckpointPolicy(passive_frames=1000),
        ),
        Preset(
            name="balanced",
            why="the database is always whole; a power loss can take the commits since the last checkpoint",
            synchronous="normal",
            autocheckpoint=1000,
            journal_size_limit=64 << 20,
            busy_timeout=5_000,
            policy=CheckpointPolicy(),
        ),
        Preset(
            name="fast",
            why="as balanced, with rarer and larger checkpoints: a power loss can take more, and the log is larger",
            synchronous="normal",
            autocheckpoint=10_000,
            journal_size_limit=256 << 20,
            busy_timeout=5_000,
            policy=CheckpointPolicy(passive_frames=16_000, idle_seconds=5.0, bound_bytes=256 << 20),
        ),
    )
}


def chosen(settings: WalSettings) -> Preset:
    """Return the preset that the settings name, with what they say otherwise."""
    preset = PRESETS[settings.preset]
    policy = preset.policy
    policy = replace(
        policy,
        passive_frames=_or(settings.passive_frames, policy.passive_frames),
        idle_seconds=_or(settings.idle_seconds, policy.idle_seconds),
        bound_bytes=_or(settings.bound_bytes, policy.bound_bytes),
        mode=_or(settings.checkpoint, policy.mode),
        wait_seconds=_or(settings.wait_seconds, policy.wait_seconds),
    )
    return replace(
        preset,
        synchronous=_or(settings.synchronous, preset.synchronous),
        autocheckpoint=0 if settings.guarded else _or(settings.autocheckpoint, preset.autocheckpoint),
        journal_size_limit=_or(settings.journal_size_limit, preset.journal_size_limit),
        busy_timeout=_or(settings.busy_timeout, preset.busy_timeout),
        policy=policy,
    )


def _or(given: T | None, preset: T) -> T:
    return preset if given is None else given
