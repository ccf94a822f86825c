"""How facts are made: one small function for each state."""

from __future__ import annotations

from pagewarden.values import DoctorFact


def ok(name: str, value: str, why: str = "") -> DoctorFact:
    """Return a fact that is as it should be."""
    return DoctorFact(name=name, state="ok", value=value, why=why)


def warning(name: str, value: str, why: str, hint: str = "") -> DoctorFact:
    """Return a fact that a person should know of."""
    return DoctorFact(name=name, state="warning", value=value, why=why, hint=hint)


def problem(name: str, value: str, why: str, hint: str) -> DoctorFact:
    """Return a fact that loses or damages data, or keeps Pagewarden from its work."""
    return DoctorFact(name=name, state="problem", value=value, why=why, hint=hint)


def size(count: int) -> str:
    """Return a number of bytes for people."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
