"""Reports of the `wal` verbs for people: first how it stands, then who is in the way, then what to type."""

from __future__ import annotations

from pagewarden.values import WalCheckpointReport, WalEnableReport, WalStatusReport, WalTuneReport
from pagewarden.wal.reports import WalReader
from pagewarden_cli.blocks import Block, Grid, Span, Style, line
from pagewarden_cli.human import number, safe_command, seconds, size
from pagewarden_cli.render import Manner

_MODES = {"wal": "WAL mode", "rollback": "rollback-journal mode", "empty": "no journal mode yet: it is empty"}


def show_status(report: WalStatusReport, manner: Manner) -> list[Block]:
    """Return how a log stands."""
    if manner.quiet and report.exit_code == 0:
        return []
    blocks: list[Block] = [line(Span(report.database, "strong"), f" is in {_MODES[report.journal_mode]}")]
    if report.journal_mode == "wal":
        blocks += _log(report)
    blocks += [_reader(each) for each in report.readers if each.pid != report.guard or report.over_bound]
    if not manner.quiet:
        blocks += _surroundings(report, manner)
    blocks += _warned(report.warnings)
    if report.advice.command:
        blocks.append(
            line(Span("hint: ", "dim"), safe_command(report.advice.command), f"   ({report.advice.why})", indent=2)
        )
    return blocks


def show_enable(report: WalEnableReport, manner: Manner) -> list[Block]:
    """Return what became of a switch."""
    blocks: list[Block] = []
    if not manner.quiet:
        state = "is now" if report.changed else "was already"
        blocks.append(line(Span(report.database, "strong"), f" {state} in {_MODES[report.after]}"))
        if report.after == "wal":
            blocks.append(line("the file says so to every connection; what else belongs to each connection:", indent=2))
            tune = safe_command(f"pagewarden wal tune {_quoted(report.database)}")
            blocks.append(line(Span("hint: ", "dim"), tune, indent=2))
    for reason in report.forced:
        blocks.append(line(Span("forced: ", "warn"), reason.message, indent=2))
        blocks.append(line(reason.instead, indent=4))
    return blocks + _warned(report.warnings)


def show_checkpoint(report: WalCheckpointReport, manner: Manner) -> list[Block]:
    """Return what became of a checkpoint."""
    if manner.quiet and report.done:
        return []
    word: tuple[str, Style] = ("done", "good") if report.done else ("not done", "bad")
    blocks: list[Block] = [
        line(f"{report.mode} checkpoint of ", Span(report.database, "strong"), ": ", Span(*word)),
        line(
            f"{report.checkpointed:,} of {number(report.log, 'frame')} of the log are in the database file; "
            f"the -wal has {size(report.wal_bytes)}, it had {size(report.wal_bytes_before)}",
            indent=2,
        ),
    ]
    if report.why:
        tries = number(report.attempts, "time")
        blocks.append(line(f"tried {tries} in {seconds(report.seconds)}: {report.why}", indent=2))
        blocks.append(line("nothing is lost: commits stay in the log until it can be copied", indent=2))
    elif report.mode != "passive":
        blocks.append(line(f"writers waited {seconds(report.held_seconds)} for it at the most", indent=2))
    blocks += [_reader(reader) for reader in report.held_back_by]
    blocks += _warned(report.warnings)
    pids = sorted({reader.pid for reader in report.held_back_by if reader.pid})
    if pids:
        blocks.append(line(Span("hint: ", "dim"), f"ps -fp {','.join(map(str, pids))}", indent=2))
    return blocks


def show_tune(report: WalTuneReport, manner: Manner) -> list[Block]:
    """Return the lines for the application: with --quiet nothing but them."""
    if manner.quiet:
        return [line(setting.line) for setting in report.settings]
    blocks: list[Block] = [
        line(
            "For each connection that the application opens on ",
            Span(report.database, "strong"),
            f" ({report.preset}):",
        )
    ]
    rows = tuple((Span(each.line, "strong"), Span(each.default), Span(each.why)) for each in report.settings)
    blocks.append(Grid(("line", "else it is", "what it does"), rows, indent=2))
    blocks.append(
        line(
            "journal_mode alone is kept in the file. The others nobody but the application can set for itself.",
            indent=2,
        )
    )
    rows = tuple(
        (
            Span(f"{each.synchronous}{' *' if each.chosen else ''}"),
            Span(each.application_crash),
            Span(each.machine_crash),
        )
        for each in report.losses
    )
    blocks += [line(), Grid(("synchronous", "application killed: it loses", "power loss: it loses"), rows, indent=2)]
    policy = report.guard
    keys: dict[str, object] = {
        "passive_frames": policy.passive_frames,
        "idle_seconds": policy.idle_seconds,
        "bound_bytes": policy.bound_bytes,
    }
    keys |= {"checkpoint": f'"{policy.mode}"', "wait_seconds": policy.wait_seconds}
    guard = ", ".join(f"{key} = {value}" for key, value in keys.items())
    blocks += [line(), line(f"pagewarden run checkpoints by [wal] of the configuration: {guard}", indent=2)]
    return blocks + _warned(report.warnings)


def _log(report: WalStatusReport) -> list[Block]:
    used = f"{size(report.log_bytes)} of them in use" if report.wal_bytes else "empty"
    blocks: list[Block] = [line(f"log: {size(report.wal_bytes)}, {used}, bound {size(report.bound_bytes)}", indent=2)]
    if report.over_bound:
        blocks[-1] = line(blocks[-1].spans[0].text, " ", Span("over its bound", "bad"), indent=2)  # type: ignore[union-attr]
    if report.frames is None:
        blocks.append(line("what stands in it cannot be told", indent=2))
    elif report.backfilled is None:
        blocks.append(line(f"{number(report.frames, 'frame')} that SQLite would recover; nobody has it open", indent=2))
    elif report.frames:
        waiting = report.frames - report.backfilled
        blocks.append(
            line(
                f"{number(report.frames, 'frame')}: {report.backfilled:,} are in the database file, {waiting:,} wait",
                indent=2,
            )
        )
    return blocks


def _reader(reader: WalReader) -> Block:
    from pagewarden.wal.readers import describe

    how_long = "" if reader.at_most_seconds is None else f"; reading for {seconds(reader.at_most_seconds)} at the most"
    behind = f", {number(reader.behind, 'frame')} behind" if reader.behind else ""
    return line(Span("reader: ", "warn"), f"{describe(reader)}{behind}{how_long}", indent=2)


def _surroundings(report: WalStatusReport, manner: Manner) -> list[Block]:
    blocks: list[Block] = []
    if report.guard is not None:
        who = f"process {report.guard}" if report.guard else "a guard that does not answer"
        blocks.append(line(f"followed by: {who}", indent=2))
    blocks += [line(f"open in: {holder}", indent=2) for holder in report.holders]
    if manner.verbose:
        rows = tuple(
            (
                Span(str(lock.pid)),
                Span(lock.command),
                Span(lock.file),
                Span(lock.lock),
                Span("write" if lock.exclusive else "read"),
            )
            for lock in report.locks
        )
        if rows:
            blocks.append(Grid(("pid", "command", "file", "lock", "kind"), rows, frozenset({0}), indent=2))
    if not report.advice.command:
        blocks.append(line(f"checkpoint: not now; {report.advice.why}", indent=2))
    for bug in report.bugs if report.journal_mode == "wal" else ():
        blocks.append(line(Span(f"SQLite {report.sqlite}: ", "warn"), f"{bug.what}; mended in {bug.fixed}", indent=2))
        blocks.append(line(bug.advice, indent=4))
    return blocks


def _warned(warnings: tuple[str, ...]) -> list[Block]:
    return [line(Span("warning: ", "warn"), warning, indent=2) for warning in warnings]


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(path)
