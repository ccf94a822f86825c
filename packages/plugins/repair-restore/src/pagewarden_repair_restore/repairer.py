"""The repairer: the plan, and which restore point it is made from."""

from __future__ import annotations

from collections.abc import Sequence

from pagewarden.contracts import Loss, PastImage, RepairBench, RepairCase, RepairStep, Stage
from pagewarden.errors import RepairRefused
from pagewarden.values import Severity


class RestoreRepairer:
    """Puts the database together anew: from the newest sound restore point and what is newer in the damaged file.

    It is what is left where nothing else helps, so it mends all damage, and loses what was committed since the restore
    point and cannot be read any more. Where the repository proves the last commit, it brings back just that.
    """

    name = "repair-restore"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Return one step; none without a history, or where nothing is damaged."""
        history = case.history
        damage = tuple(place for place, finding in enumerate(case.findings) if finding.severity is Severity.DAMAGE)
        if history is None or not (damage or case.refused):
            return ()
        if history.present is not None:
            at = history.present.position
            return (
                RepairStep(
                    text=f"put the database together anew as it was committed last, at position {at}",
                    why=history.why,
                    loss=Loss.PROVEN,
                    stage=Stage.ROWS,
                    mends=damage,
                    task=_task(history.present),
                ),
            )
        at = history.newest.position
        return (
            RepairStep(
                text=(
                    f"put the database together anew from the restore point at position {at}, with every table of the "
                    "damaged file whose pages are sound, and of the others the newer rows that can be read"
                ),
                why=f"what was committed since cannot be proven: {history.why}",
                loses=f"what was committed after position {at} and cannot be read any more",
                loss=Loss.SINCE_BACKUP,
                stage=Stage.ROWS,
                mends=damage,
                task=_task(history.newest),
            ),
        )

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Put a new file together, and let it become the copy. Raises RepairRefused where the plan is outdated."""
        for step in steps[:1]:  # one is all
            history = bench.case.history
            images = () if history is None else (history.present, history.newest)
            image = next((each for each in images if each is not None and _task(each) == step.task), None)
            if history is None or image is None:
                raise RepairRefused(
                    f"the restore point of the plan, {step.task.get('txid')}, is not the one to use any more",
                    hint="plan the repair again",
                )
            from pagewarden_repair_restore.assembly import assemble

            assemble(bench, history, image, newer=step.loss is not Loss.PROVEN)


def _task(image: PastImage) -> dict[str, object]:
    return {"timeline": image.position.timeline, "txid": image.position.txid}
