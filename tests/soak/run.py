"""The soak: an application that writes in every way, and a guard and a target that come and go.

`nox -s soak -- --minutes 30 --seed 7`. Every 15 seconds a random restore point is brought back and compared with the
application's own record; at the end the whole history is. Prints what was done; anything that is not as promised ends
it with code 1, and the folder is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.soak import application
from tests.soak.audit import Audit, audit
from tests.soak.content import Moment, read
from tests.soak.history import manifests, replay
from tests.soak.record import Record
from tests.soak.stage import CUTS, Application, CommandFailed, Guard, Stage, Target
from tests.support.databases import file_sums

_SETTLING = 120.0  # seconds that the guard may take at the end until all is durable


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How long and how often."""

    minutes: float = 3.0
    seed: int = 1
    restore_every: float = 15.0  # seconds
    calm: float = 1.0  # how many times as long as usual everything is left alone
    roles: tuple[str, ...] = application.ROLES
    cuts: tuple[str, ...] = CUTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A restore point that was brought back."""

    timeline: str
    txid: int
    moment: Moment
    at: datetime | None = None  # the time that was asked for; None where its txid was, or the newest
    newest: int = 0  # the newest txid that was listed before


@dataclass(slots=True)
class Report:
    """What a soak did and saw."""

    done: Counter[str] = field(default_factory=Counter)
    restored: list[Restored] = field(default_factory=list)
    synced: list[tuple[int, str, int]] = field(default_factory=list)  # number acknowledged before, timeline, txid
    audit: Audit = field(default_factory=Audit)
    notes: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)  # syncs, by what they said

    def lines(self) -> list[str]:
        """Return what is printed."""
        audited = self.audit
        return [
            "done: " + _counts(self.done),
            "the application besides its transactions: "
            + _counts(Counter({name: n for name, n in self.notes.items() if not name.startswith("wait")})),
            "longest waits for the write lock, seconds: "
            + ", ".join(f"{name[8:]} {most:.2f}" for name, most in sorted(self.slowest.items()) if "wait" in name),
            "syncs refused: " + (_counts(self.refused) or "nothing"),
            f"history: {audited.commits} commits, of which {audited.states} can be had back and are exact, "
            f"{audited.matched} of them by the image that SQLite gave, {audited.read} by every row; "
            f"{audited.snapshots} snapshots",
            f"merged runs: {audited.merged_runs}, with {audited.merged_commits} commits that cannot be had back",
            f"gaps by cause: {_counts(audited.gaps) or 'none'}; commits within them: {audited.gap_commits}",
        ]


class Soak:
    """One run."""

    def __init__(self, folder: Path, choice: Choice) -> None:
        self.stage = Stage(folder)
        self.choice = choice
        self.report = Report()
        self.target = Target(self.stage.repository)
        self.guard = Guard(self.stage, str(self.stage.repository))
        self.record = Record(self.stage.record)
        self.application = Application(self.stage, choice.roles, self._chance("application"))
        self._stop = threading.Event()
        self._failures: list[str] = []
        self._keeping = threading.Lock()  # the guard's process

    def run(self) -> Report:
        """Play for the chosen time, let all settle, compare everything. Raises AssertionError with what is wrong."""
        self.begin()
        players = (self._keep_guard, self._keep_application, self._cut_target, self._bring_back, self._sync)
        threads = [threading.Thread(target=self._guarded(player)) for player in players]
        for thread in threads:
            thread.start()
        self._stop.wait(self.choice.minutes * 60)
        self._stop.set()
        for thread in threads:
            thread.join()
        try:
            if not self._failures:
                self.settle()
        finally:
            self.end()
        assert not self._failures, "\n".join(self._failures)
        return self.report

    def begin(self) -> None:
        """Make the database, and let guard and application begin."""
        application.make(self.stage.database, self.stage.record)
        self.guard.start()
        self.application.start()

    def end(self) -> None:
        """Let nothing of it run any more."""
        if self.guard.runs:
            self.guard.kill()
        self.application.stop()

    # -- players: each in a thread of its own until the time is over

    def _keep_guard(self) -> None:
        chance = self._chance("guard")
        while self._lasts(chance.uniform(3.0, 25.0)):
            with self._keeping:
                assert self.guard.runs, f"the guard ended by itself: {self.guard.complaint()}"
                what = chance.choice(("kill",) * 6 + ("end", "pause", "pause"))
                if what == "pause":
                    self.guard.pause(chance.uniform(0.5, 4.0))
                    self._did("guard paused")
                    continue
                if what == "end":
                    code = self.guard.end()
                    assert code in (0, 130, 143), f"a guard that was asked to end said {code}: {self.guard.complaint()}"
                    self._did("guard ended")
                else:
                    self.guard.kill()
                    self._did("guard killed")
                if chance.random() < 0.4:  # nobody holds the log any more: the last connection deletes it
                    with self.application.lock:
                        self.application.stop()
                        if not Path(f"{self.stage.database}-wal").exists():
                            self._did("-wal deleted while no guard ran")
                        self.application.start()
                    self._did("application restarted while no guard ran")
                self._lasts(chance.choice((0.0, 0.2, chance.uniform(0.5, 4.0))))
                self.guard.start()
                self._did("guard started")

    def _keep_application(self) -> None:
        chance = self._chance("keeper")
        while self._lasts(chance.uniform(2.0, 12.0)):
            with self.application.lock:
                faults = self.application.faults()
                assert not faults, faults
                what = chance.choice(("one", "one", "all", "restart"))
                if what == "restart":
                    self.application.stop()
                    self.application.start()
                    self._did("application restarted")
                else:
                    self.application.kill(everyone=what == "all")
                    self._did("application killed" if what == "all" else "a process of the application killed")

    def _cut_target(self) -> None:
        chance = self._chance("target")
        while self._lasts(chance.uniform(5.0, 20.0)):
            if len(list(self.stage.repository.glob("*/manifests/*.json"))) < 2:
                continue  # a place where nothing was ever stored is not waited for
            what = chance.choice(self.choice.cuts)
            self.target.cut(what)
            self._did(f"target cut off ({what} in its place)")
            self._lasts(chance.uniform(0.5, 10.0))
            self.target.bring_back()

    def _bring_back(self) -> None:
        chance = self._chance("restore")
        while self._lasts(self.choice.restore_every / self.choice.calm):
            with self.target.readable() as repository:
                self.bring_one_back(repository, chance)

    def _sync(self) -> None:
        chance = self._chance("sync")
        while self._lasts(chance.uniform(2.0, 8.0)):
            before = self.record.refresh().last_acknowledged()
            try:
                position = self.stage.command("sync", self.stage.database, patience=300.0)["position"]
            except CommandFailed as failed:  # no guard, or it was killed meanwhile
                self.report.refused[failed.message.replace(f"{self.stage.folder}/", "")] += 1
                continue
            self.report.synced.append((before, position["timeline"], position["txid"]))
            self._did("syncs")

    # -- single acts, for whoever plays by another plan

    def bring_one_back(self, repository: Path, chance: random.Random) -> None:
        """Bring a random restore point back and compare it with the application's record."""
        try:
            listed = self.stage.command("backups", "--repo", repository)["backups"]
        except CommandFailed as failed:
            assert not any(repository.glob("*/manifests/*.json")), failed
            return
        places = restorable(listed)
        if not places:
            return
        if chance.random() < 0.3:
            first, last = (datetime.fromisoformat(listed[end]["position"]["time"]) for end in (0, -1))
            at = first + chance.random() * (last - first)
            found = self._restore(repository, "--at", at.isoformat())
            self.report.restored.append(replace(found, at=at, newest=places[-1][1]))
            self._did("restores to a time")
            return
        timeline, txid = chance.choice(places)
        found = self._restore(repository, "--txid", str(txid))
        assert (found.timeline, found.txid) == (timeline, txid), f"{found} was brought back for {timeline}:{txid}"
        self.report.restored.append(found)
        self._did("restores to a txid")

    def _restore(self, repository: Path, *which: str) -> Restored:
        """Bring one restore point back, and compare it with the application's record."""
        out = self.stage.scratch / "restored.db"
        said = self.stage.command("restore", "--repo", repository, "--to", out, *which)
        position = said["position"]
        moment, content = read(out)
        page_size = said["bytes"] // said["pages"]
        sums = file_sums(out, page_size)
        total = 0
        for offset in range(0, len(sums), 8):
            total ^= int.from_bytes(sums[offset : offset + 8], "little")
        assert f"{total:016x}" == said["database_sum"], said
        intent = self.record.refresh().intents.get(moment.token)
        assert intent is not None, f"{said} brought back a transaction that nobody recorded: {moment}"
        assert moment.token not in self.record.rolled_back, f"{said} brought back what was rolled back: {moment}"
        assert content == intent.digest, f"{said} brought back {moment}, but other rows than those of {intent}"
        seen = self.record.sightings.get((moment.token, moment.cookie))
        assert seen is None or seen.database_sum == total, f"{said} is not the image that SQLite gave: {seen}"
        out.unlink()
        return Restored(timeline=position["timeline"], txid=position["txid"], moment=moment)

    def sync(self) -> None:
        """Wait until all that was committed before is durable, from the guard's start on."""
        end = time.monotonic() + _SETTLING
        while True:
            try:
                self.stage.command("sync", self.stage.database, patience=300.0)
            except CommandFailed as failed:
                assert time.monotonic() < end and self.guard.runs, f"{failed}\n{self.guard.complaint()}"
                time.sleep(0.1)
            else:
                return

    def await_commits(self, count: int) -> None:
        """Wait until the application has committed so many more."""
        goal = self.record.refresh().last_acknowledged() + count
        end = time.monotonic() + _SETTLING
        while self.record.refresh().last_acknowledged() < goal:
            assert time.monotonic() < end, f"the application did not come to commit {goal}"
            time.sleep(0.02)

    def settle(self) -> None:
        """Let the guard come to rest, and compare the whole of its history with the record."""
        self.application.stop()
        if not self.guard.runs:
            self.guard.start()
        self.sync()
        code = self.guard.end()
        assert code == 0, f"the guard ended with {code}: {self.guard.complaint()}"
        # All of the database is compared with the newest restore point; and what dead guards left is removed.
        report = self.stage.command("backup", self.stage.database, "--repo", self.stage.repository)
        assert report["kind"] == "unchanged", f"the newest restore point is not the database: {report}"
        final, content = read(self.stage.database)
        newest = self._restore(self.stage.repository)
        assert newest.moment == final, f"the newest restore point is {newest}, the database {final}"
        self.record.refresh()
        assert content == self.record.intents[final.token].digest
        states = replay(self.stage.repository, self.stage.database.name, self.stage.scratch)
        self.report.audit = audit(states, self.record, final.token, starts=self.guard.starts)
        stored = manifests(self.stage.repository, self.stage.database.name)
        self._did("restore points", len(stored))
        self._did("of them gathered from many", sum("gathered" in each for each in stored))
        numbers = self.report.audit.numbers
        for each in (*self.report.restored, newest):
            number = numbers.get((each.timeline, each.txid))
            assert number == each.moment.number, f"{each}, and at the end it is transaction {number}"
            if each.at is not None:
                self._judge_time(each, each.at)
        for acknowledged, timeline, txid in self.report.synced:
            assert numbers[timeline, txid] >= acknowledged, f"sync said {txid}, which lacks commit {acknowledged}"
        self.report.notes = self.record.notes
        self.report.slowest = self.record.slowest
        verified = self.stage.command("verify", "--repo", self.stage.repository, "--read-data", patience=3600.0)
        assert verified["verdict"] == "sound" and not verified["leftovers"], verified
        self._did("commits acknowledged", len(self.record.committed))
        self._did("rolled back", len(self.record.rolled_back))

    def _judge_time(self, restored: Restored, at: datetime) -> None:
        """Fail unless what was brought back for a time was the last commit seen until then."""
        asked, times = at.timestamp() * 1e6, self.report.audit.times
        assert times[restored.txid] <= asked, f"{restored} was seen later"
        later = min((txid for txid in times if txid > restored.txid), default=None)
        if later is not None and later <= restored.newest:
            assert times[later] > asked, f"{restored}, though txid {later} was seen before that, too"

    # -- means

    def _did(self, what: str, times: int = 1) -> None:
        self.report.done[what] += times

    def _lasts(self, seconds: float) -> bool:
        """Wait; return whether the run goes on."""
        return not self._stop.wait(seconds * self.choice.calm)

    def _chance(self, who: str) -> random.Random:
        return random.Random(f"{self.choice.seed} {who}")

    def _guarded(self, player: Callable[[], None]) -> Callable[[], None]:
        def play() -> None:
            try:
                player()
            except BaseException:  # noqa: BLE001 - reported by the main thread, which ends with it
                self._failures.append(f"{datetime.now(UTC):%H:%M:%S} {player.__name__}: {traceback.format_exc()}")
                self._stop.set()

        return play


def restorable(listed: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return every position of which `backups --json` says that it can be brought back."""
    found = []
    for each in listed:
        position, commits = each["position"], each["commits"]
        first = position["txid"]
        if commits is not None and commits["count"] == position["txid"] - each["continues"]:
            first = each["continues"] + 1  # otherwise some of them are merged, and it does not say which
        found += [(position["timeline"], txid) for txid in range(first, position["txid"] + 1)]
    return found


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def main() -> None:
    """Parse the arguments, play, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    full = "PAGEWARDEN_FULL" in os.environ
    parser.add_argument("--minutes", type=float, default=30.0 if full else 3.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 16))
    parser.add_argument("--folder", type=Path, help="where to play; kept if something is wrong")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pagewarden-soak-", dir=chosen.folder)).resolve()
    print(f"soak of {chosen.minutes:g} minutes, seed {chosen.seed}, in {folder}", flush=True)
    soak = Soak(folder, Choice(minutes=chosen.minutes, seed=chosen.seed))
    try:
        report = soak.run()
    except BaseException:  # noqa: BLE001 - all of it is reported
        traceback.print_exc()
        print("\n".join(soak.report.lines()))
        print(f"not as promised, seed {chosen.seed}; all of it is kept in {folder}")
        sys.exit(1)
    print("\n".join(report.lines()))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
