"""Where a database stands: looked at by `stat` alone, because to open it here could drop locks (H1)."""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pagewarden.errors import DatabaseNotFound, DatabaseUnreadable, DatabaseUnsettled

NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gfs2", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)
"""Types of file systems whose shared memory and locks do not reach all machines: no place for WAL mode (H4)."""

_OF_ONE_MACHINE = frozenset(
    {"btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "ntfs3", "squashfs", "tmpfs", "udf", "vfat"}
    | {"xfs"}
)
"""Types of file systems that only this machine writes to: where they are read-only, nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A database's surroundings, as `stat` shows them."""

    path: str  # real path: no links, absolute
    device: int
    inode: int
    size: int  # of the database file, bytes
    wal_size: int  # of the -wal, bytes; 0 where there is none
    journal_size: int  # of the -journal, bytes; 0 where there is none
    companions: frozenset[str]  # which of "-wal", "-shm" and "-journal" are there
    file_system: str  # its type, such as "ext4"; empty where the system does not tell
    frozen: bool = False  # whether nobody can write to it, and nothing waits beside it: see `frozen`

    @property
    def on_network(self) -> bool:
        """Whether it lies on a network file system."""
        return self.file_system in NETWORK_FILE_SYSTEMS

    def created_since(self) -> tuple[str, ...]:
        """Return the companions that stand there now and did not before: opening is writing, too (H33)."""
        absent = {"-wal", "-shm"} - self.companions
        return tuple(sorted(name for name in absent if os.path.lexists(self.path + name)))

    def unchanged(self) -> bool:
        """Return whether the same file still stands at the path (H5), and one that was frozen still is."""
        try:
            found = os.lstat(self.path)
        except OSError:  # gone, or out of reach: not the same file either way
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.inode) and (not self.frozen or frozen(self.path))


def examine(path: str | os.PathLike[str]) -> Place:
    """Return where the database at `path` stands, links resolved. Nothing is opened.

    Raises DatabaseNotFound; DatabaseUnreadable for what is no file, has several names (H4), cannot be reached, or has
    something else than a file for its log or journal; DatabaseUnsettled where even a reader inside SQLite would destroy
    evidence.
    """
    try:
        real = os.path.realpath(path)
        quoted = shlex.quote(real)
        found = Path(real).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatabaseNotFound(
            f"{os.fspath(path)} is not there", hint=f"ls -ld {shlex.quote(str(Path(real).parent))}"
        ) from error
    except ValueError as error:  # a path with a NUL in it
        raise DatabaseNotFound(f"{os.fspath(path)!r} cannot be the name of a file", hint="name another") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatabaseUnreadable(f"{os.fspath(path)} cannot be reached: {reason}", hint=f"ls -ld {quoted}") from error
    if stat.S_ISDIR(found.st_mode):
        raise DatabaseUnreadable(f"{real} is a directory", hint="name the database file in it")
    if not stat.S_ISREG(found.st_mode):
        raise DatabaseUnreadable(f"{real} is not a regular file", hint=f"look what it is: ls -l {quoted}")
    if found.st_nlink > 1:
        raise DatabaseUnreadable(
            f"{real} has {found.st_nlink} names (hard links): SQLite would look for its journal beside each of them",
            hint=f"find the other names: find / -xdev -inum {found.st_ino}",
        )
    if not os.access(real, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise DatabaseUnreadable(f"{real} may not be read by this user", hint=f"ls -l {quoted}")
    try:
        beside = {name: _look(real + name) for name in ("-wal", "-shm", "-journal")}
    except OSError as error:
        # SQLite takes a name that it cannot lengthen for that of a database without journal and log.
        raise DatabaseUnreadable(
            f"{real} cannot have a -journal or -wal beside it: {(error.strerror or str(error)).lower()}",
            hint=f"close all connections and give it a shorter name: mv {quoted} NAME",
        ) from error
    for name in ("-wal", "-journal"):
        there = beside[name]
        if there is not None and not stat.S_ISREG(there.st_mode):
            # SQLite would wait for ever at a FIFO, and follows no link there (unixOpen() in os_unix.c).
            raise DatabaseUnreadable(
                f"{real}{name} is not a regular file", hint=f"look what it is: ls -ld {shlex.quote(real + name)}"
            )
    sizes = {name: None if there is None else there.st_size for name, there in beside.items()}
    if found.st_size == 0 and sizes["-wal"]:
        # pagerOpenWalIfPresent() in SQLite's pager.c removes the log of an empty database, read-only or not.
        raise DatabaseUnsettled(
            f"{real} is empty, but beside it lies a log (-wal) of {sizes['-wal']} bytes, which SQLite would remove",
            hint=f"save it first: {shlex.join(['cp', f'{real}-wal', f'{real}-wal.saved'])}",
        )
    return Place(
        path=real,
        device=found.st_dev,
        inode=found.st_ino,
        size=found.st_size,
        wal_size=sizes["-wal"] or 0,
        journal_size=sizes["-journal"] or 0,
        companions=frozenset(name for name, size in sizes.items() if size is not None),
        file_system=file_system(real),
        frozen=frozen(real),
    )


def frozen(path: str) -> bool:
    """Return whether nobody can write to the database at the real path `path`, and its file alone is all of it.

    Nobody can where the whole file system is read-only and only this machine writes to it. A mount that is read-only
    may be one of several of the same file system, as in a container: then others can. A log or journal with content
    beside the file is part of the database. A mount that hides the one that is found by its name has another device.
    """
    try:
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        device = Path(path).stat().st_dev
    except OSError:  # gone, or out of reach
        return False
    if not read_only or any(_size(path + suffix) for suffix in ("-wal", "-journal")):
        return False
    mount = _mount(path)
    there = f"{os.major(device)}:{os.minor(device)}"
    return mount.kind in _OF_ONE_MACHINE and "ro" in mount.options and mount.device == there


def file_system(path: str) -> str:
    """Return the type of the file system that holds the real path `path`, empty where the system does not tell."""
    return _mount(path).kind


class _Mount(NamedTuple):
    """A mounted file system; empty where the system does not tell."""

    kind: str  # its type, such as "ext4"
    options: frozenset[str]  # of all of it, not of one mount
    device: str  # major:minor


def _mount(path: str) -> _Mount:
    """Return the file system that holds a real path.

    From proc_pid_mountinfo(5): of the mounts that the path lies under, the longest, and of equal ones the last.
    """
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:  # no such system, or hidden
        return _Mount("", frozenset(), "")
    best, found = -1, _Mount("", frozenset(), "")
    wanted = os.fsencode(path)
    for line in lines:
        fields, _, rest = line.partition(b" - ")
        # Blanks, tabs, newlines and backslashes of a mount point are written as three octal digits.
        mount = fields.split()[4].decode("unicode_escape").encode("latin-1").rstrip(b"/")
        if len(mount) >= best and (wanted == mount or wanted.startswith(mount + b"/")):
            words = rest.split()  # type, device, options; a device may have no name
            options = frozenset(os.fsdecode(words[-1]).split(","))
            best, found = len(mount), _Mount(os.fsdecode(words[0]), options, os.fsdecode(fields.split()[2]))
    return found


def _size(path: str) -> int | None:
    """Return the size of a file, None where there is none."""
    found = _look(path)
    return None if found is None else found.st_size


def _look(path: str) -> os.stat_result | None:
    """Return what the system says of a file, None where there is none."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
