"""Who has a database open: looked up in /proc, without opening the database (H1).

1. The database, its -wal, -shm and -journal are told by device and inode, by `stat` alone.
2. /proc/PID/fd shows every open file of the processes that this user may look into, deleted files included: a process
   whose file was renamed over or removed goes on writing to it (H5).
3. /proc/locks shows the POSIX locks of every process, also of those whose files cannot be seen. A connection in WAL
   mode always holds one; one in rollback-journal mode only while it reads or writes.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pagewarden.errors import DatabaseBusy

COMPANIONS = ("", "-wal", "-shm", "-journal")
"""What SQLite appends to a database's path to name the files that belong to it; the first is the database itself."""

SHM_READ_LOCKS = range(123, 128)
"""Bytes of the -shm that readers lock, one for each read-mark (SQLite's wal.c: 120 + 3 + mark)."""

_PROC = Path("/proc")
_CHILD = b"pagewarden.processes."  # in the command line of a process that Pagewarden started
# One line of proc_locks(5); a blocked request stands behind "->", and waits for a lock instead of holding one.
_LOCK = re.compile(
    r"\d+: (?P<blocked>-> )?(?:POSIX|OFDLCK)\s+\S+\s+(?P<kind>READ|WRITE)\s+(?P<pid>-?\d+)\s+"
    r"(?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):(?P<inode>\d+)\s+(?P<first>\d+)\s+(?P<last>\d+|EOF)"
)

_Inode = tuple[int, int]  # st_dev, st_ino


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One POSIX lock on a file of the database."""

    pid: int  # 0 where the owner cannot be told
    file: str  # name of the locked file
    write: bool
    first: int  # first locked byte
    last: int | None  # last locked byte; None: to the end of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile:
    """One descriptor of a process, on a file of the database."""

    pid: int
    number: int
    file: str  # name
    deleted: bool = False  # whether it no longer stands at its path

    @property
    def path(self) -> str:
        """Where the file can still be read, deleted or not."""
        return f"{_PROC}/{self.pid}/fd/{self.number}"

    def __str__(self) -> str:
        return f"{self.file} (deleted)" if self.deleted else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One process that has files of the database open."""

    pid: int  # 0 where it cannot be told
    command: str
    files: tuple[str, ...]  # names, with " (deleted)" behind those that no longer stand at their path
    relation: str = ""  # "this process", "a child of this process", or nothing
    descriptors: tuple[OpenFile, ...] = ()  # none where only its locks can be seen

    def __str__(self) -> str:
        who = f"{self.command} (pid {self.pid}{', ' + self.relation if self.relation else ''})"
        return f"{who if self.pid else 'a process that cannot be told'} has {', '.join(self.files)} open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """What could be seen of who has a database open."""

    path: str
    holders: tuple[Holder, ...]
    locks: tuple[Lock, ...]
    why: str = ""  # what could not be seen; empty where everything was
    visible: bool = True  # whether the system shows processes at all

    @property
    def complete(self) -> bool:
        """Whether every process could be looked into."""
        return not self.why

    def refuse(self, doing: str, *, forcible: bool) -> None:
        """Raise DatabaseBusy, naming every holder, if there is one.

        `doing` is what they stand in the way of, `forcible` whether --force would go on all the same.
        """
        if self.holders:
            names = "; ".join(map(str, self.holders))
            pids = ",".join(str(holder.pid) for holder in self.holders)
            force = "; with --force it would go on writing to the old file" if forcible else ""
            raise DatabaseBusy(
                f"cannot {doing} {self.path}: {names}",
                hint=f"end it and try again (ps -fp {pids}){force}",
                path=self.path,
                pids=[holder.pid for holder in self.holders],
            )


def find_holders(path: str, *, also: Sequence[str] = ()) -> Holders:
    """Return the processes that have the database at the real path `path` open, or a file that stood there.

    Files of `also` count as the database itself: a file that was put aside may still be open. Nothing is opened.
    """
    if not (_PROC / "self" / "fd").is_dir():
        why = "this system has no /proc: who has it open cannot be told"
        return Holders(path=path, holders=(), locks=(), why=why, visible=False)
    names, wanted = _files_of(path, also)
    files: dict[int, set[str]] = {}
    descriptors: dict[int, list[OpenFile]] = {}
    locks = tuple(_locks(wanted))
    for lock in locks:
        files.setdefault(lock.pid, set()).add(lock.file)
    hidden = 0
    for pid in _processes():
        try:
            for opened in _open_files(pid, wanted, names):
                files.setdefault(pid, set()).add(str(opened))
                descriptors.setdefault(pid, []).append(opened)
        except PermissionError:
            hidden += not _ended(pid)
    holders = tuple(
        Holder(
            pid=pid,
            command=command_of(pid),
            files=tuple(sorted(files[pid])),
            relation=_relation(pid),
            descriptors=tuple(descriptors.get(pid, ())),
        )
        for pid in sorted(files)
    )
    what = "1 process" if hidden == 1 else f"{hidden} processes"
    # The superuser may look into any process, but for those that a container or another namespace shuts off.
    whose = "although this is root: no leave to trace it, as in a container" if not os.geteuid() else "as this user"
    why = f"{what} cannot be looked into, {whose}" if hidden else ""
    return Holders(path=path, holders=holders, locks=locks, why=why)


def find_locks(path: str) -> tuple[Lock, ...] | None:
    """Return the locks on the files of the database at the real path `path`; None where the system does not tell.

    It costs far less than to look for all holders. Nothing is opened.
    """
    if not os.access(_PROC / "locks", os.R_OK):
        return None
    return tuple(_locks(_files_of(path)[1]))


def files_held(path: str, pid: int) -> frozenset[OpenFile]:
    """Return the descriptors that one process has on files of the database now; none if it may not be seen."""
    names, wanted = _files_of(path)
    try:
        return frozenset(_open_files(pid, wanted, names))
    except PermissionError:
        return frozenset()


def is_ours(pid: int) -> bool:
    """Whether a process works for this run: it is this one, or a child that Pagewarden started."""
    if pid == os.getpid():
        return True
    try:
        return parent_of(pid) == os.getpid() and _CHILD in Path(f"{_PROC}/{pid}/cmdline").read_bytes()
    except OSError:  # it ended
        return False


def _files_of(path: str, also: Sequence[str] = ()) -> tuple[dict[str, str], dict[_Inode, str]]:
    """Return the names of a database's files by path, and of those that are there by inode."""
    names = {path + suffix: Path(path + suffix).name for suffix in COMPANIONS}
    wanted: dict[_Inode, str] = {}
    for file in (*also, *names):
        try:
            found = Path(file).stat()
        except OSError:  # not there, or out of reach: then it cannot be told by its inode either
            continue
        wanted[found.st_dev, found.st_ino] = Path(file).name
    return names, wanted


def _processes() -> Iterator[int]:
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal():
            yield int(entry.name)


def _ended(pid: int) -> bool:
    """Whether a process is gone, or only its exit status is left: it has nothing open any more."""
    try:
        line = Path(f"{_PROC}/{pid}/stat").read_bytes()
    except OSError:
        return not Path(f"{_PROC}/{pid}").exists()
    return line.rpartition(b") ")[2][:1] in (b"Z", b"X")  # its name may hold anything


def _open_files(pid: int, wanted: dict[_Inode, str], names: dict[str, str]) -> Iterator[OpenFile]:
    """Yield the descriptors of `pid` on the files in question. Raises PermissionError if it may not be seen."""
    try:
        links = list(os.scandir(f"{_PROC}/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):  # it ended
        return
    for link in links:
        try:
            # Not the name decides but the inode: a process in a container sees the same file under another name.
            found = link.stat()
            if (name := wanted.get((found.st_dev, found.st_ino))) is not None:
                yield OpenFile(pid=pid, number=int(link.name), file=name)
            elif stat.S_ISREG(found.st_mode):
                target = os.readlink(link)  # noqa: PTH115 - a process may have thousands of them open
                deleted = target.removesuffix(" (deleted)")
                if deleted != target and deleted in names:
                    yield OpenFile(pid=pid, number=int(link.name), file=names[deleted], deleted=True)
        except PermissionError:
            raise
        except OSError:  # closed meanwhile, or on a file system that does not answer
            continue


def _locks(wanted: dict[_Inode, str]) -> Iterator[Lock]:
    try:
        lines = (_PROC / "locks").read_text(encoding="utf-8").splitlines()
    except OSError:  # some containers hide it; the open files still tell
        return
    for line in lines:
        match = _LOCK.match(line)
        if match is None or match["blocked"]:
            continue
        device = os.makedev(int(match["major"], 16), int(match["minor"], 16))
        name = wanted.get((device, int(match["inode"])))
        if name is not None:
            last = None if match["last"] == "EOF" else int(match["last"])
            pid = max(int(match["pid"]), 0)
            yield Lock(pid=pid, file=name, write=match["kind"] == "WRITE", first=int(match["first"]), last=last)


def command_of(pid: int) -> str:
    """Return the name of the program; never its arguments, which may hold secrets."""
    try:
        return Path(f"{_PROC}/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # it ended, or cannot be seen
        return "a process"


def _relation(pid: int) -> str:
    own = os.getpid()
    if pid == own:
        return "this process"
    while pid > 1:
        pid = parent_of(pid)
        if pid == own:
            return "a child of this process"
    return ""


def parent_of(pid: int) -> int:
    """Return the parent of a process, 0 for one that ended."""
    try:
        line = Path(f"{_PROC}/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it ended
        return 0
    # proc_pid_stat(5): pid (comm) state ppid …; the name may itself hold spaces and parentheses.
    return int(line.rpartition(")")[2].split()[1])
