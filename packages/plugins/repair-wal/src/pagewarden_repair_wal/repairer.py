"""The repairer: what is to become of a log, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagewarden.contracts import Loss, RepairBench, RepairCase, RepairStep, Stage
from pagewarden.values import Severity

if TYPE_CHECKING:
    from pagewarden.structure import WalSurvey

_KINDS = frozenset({"bad-wal", "bad-wal-header", "stranded-commits"})


class WalRepairer:
    """Takes a log away that is another database's, and of a damaged one what SQLite leaves out.

    Everything that is taken away goes to the quarantine. Committed transactions behind a bad frame are replayed only
    where the owner chose that, and only as far as frames prove them.
    """

    name = "repair-wal"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Return one step, or none where there is no log, or nothing is wrong with it."""
        log = case.log
        if log is None or not any(finding.severity is Severity.DAMAGE for finding in case.findings):
            return ()
        from pagewarden.sqlite.origin import signs_of_another  # here, because most commands plan no repair
        from pagewarden_repair_wal.trust import states_itself

        signs = tuple(signs_of_another(log))
        if signs and states_itself(log.file_header):
            return (_set_aside(log, signs),)
        mends = tuple(
            place
            for place, finding in enumerate(case.findings)
            if finding.kind in _KINDS and finding.severity is Severity.DAMAGE
        )
        if not mends:
            return ()
        if case.policy.replay_stranded and log.replay_commits and not signs:
            return (_replay(log, mends),)
        return (_cut(log, mends),)

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Write the log anew as planned, or take it away."""
        from pagewarden_repair_wal.mending import mend  # here, because planning needs nothing of it

        for step in steps[:1]:
            mend(bench, step.task)


def _set_aside(log: WalSurvey, signs: Sequence[str]) -> RepairStep:
    return RepairStep(
        text="set the -wal aside, which was not written for this database file",
        why="; ".join(signs),
        loss=Loss.NOTHING,
        stage=Stage.LOG,
        task={"do": "set-aside", "salts": log.salts.hex()},
        sets_log_aside=True,
    )


def _replay(log: WalSurvey, mends: tuple[int, ...]) -> RepairStep:
    left = 0 if log.replay_to >= log.stranded_last else max(1, log.stranded_commits - log.replay_commits)
    losses = []
    if left:
        losses.append(f"{_commits(left)} behind them, of which pages are missing; what is intact of them is kept")
    if log.replay_without:  # then nothing tells a frame that was damaged from one that a later history has written over
        losses.append("rows committed since a program recovered the log, if one did; they go to the quarantine")
    return RepairStep(
        text=f"replay {_commits(log.replay_commits)} that SQLite leaves out of the -wal, up to frame {log.replay_to}",
        why=f"{_fault(log)}; {_proof(log)}",
        loses="; and ".join(losses) or "nothing",
        loss=Loss.MOVED if losses else Loss.NOTHING,
        stage=Stage.LOG,
        mends=mends,
        task={"do": "replay", "salts": log.salts.hex(), "to": log.replay_to, "commits": log.replay_commits},
    )


def _cut(log: WalSurvey, mends: tuple[int, ...]) -> RepairStep:
    lost = log.stranded_commits
    text = (
        f"cut the -wal off behind frame {log.committed}, the last commit that SQLite's recovery reaches"
        if log.committed
        else "take away the -wal, of which SQLite's recovery serves nothing"
    )
    provable = f"; {log.replay_commits} of them can be replayed: --replay-stranded" if log.replay_commits else ""
    return RepairStep(
        text=f"{text}, and keep what is behind it in the quarantine",
        why=f"{_fault(log)}{provable}",
        loses=f"{_commits(lost)} that SQLite leaves out; what is intact of them is kept" if lost else "nothing",
        loss=Loss.MOVED if lost else Loss.NOTHING,
        stage=Stage.LOG,
        mends=mends,
        task={"do": "cut", "salts": log.salts.hex(), "to": log.committed},
    )


def _proof(log: WalSurvey) -> str:
    if not log.replay_without:
        return "the frames prove each other intact, without a gap"
    return (
        f"{log.replay_without} of the frames up to there cannot be read, and what they held is written again behind "
        "them; if a program has recovered the log and gone on since, that is of another history: look at the result"
    )


def _fault(log: WalSurvey) -> str:
    return log.header_fault or log.end or "frames of the -wal are damaged"


def _commits(count: int) -> str:
    return f"{count} committed transaction{'' if count == 1 else 's'}"
