"""Where a database stands: looked at by `stat` alone, because to open it here could drop locks (H1)."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pagewarden.errors import DatabaseNotFound, DatabaseUnreadable, DatabaseUnsettled

NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gfs2", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)
"""Types of file systems whose shared memory and locks do not reach all machines: no place for WAL mode (H4)."""


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

    @property
    def on_network(self) -> bool:
        """Whether it lies on a network file system."""
        return self.file_system in NETWORK_FILE_SYSTEMS

    def created_since(self) -> tuple[str, ...]:
        """Return the companions that stand there now and did not before: opening is writing, too (H33)."""
        absent = {"-wal", "-shm"} - self.companions
        return tuple(sorted(name for name in absent if os.path.lexists(self.path + name)))

    def unchanged(self) -> bool:
        """Return whether the same file still stands at the path (H5)."""
        try:
            found = os.lstat(self.path)
        except OSError:  # gone, or out of reach: not the same file either way
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.inode)


def examine(path: str | os.PathLike[str]) -> Place:
    """Return where the database at `path` stands, links resolved. Nothing is opened.

    Raises DatabaseNotFound; DatabaseUnreadable for what is no file, has several names (H4) or cannot be reached;
    DatabaseUnsettled where even a reader inside SQLite would destroy evidence.
    """
    try:
        real = os.path.realpath(path)
        found = Path(real).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatabaseNotFound(f"{os.fspath(path)} is not there", hint="look at the path: ls -l") from error
    except ValueError as error:  # a path with a NUL in it
        raise DatabaseNotFound(f"{os.fspath(path)!r} cannot be the name of a file") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatabaseUnreadable(f"{os.fspath(path)} cannot be reached: {reason}", hint="ls -l") from error
    if stat.S_ISDIR(found.st_mode):
        raise DatabaseUnreadable(f"{real} is a directory", hint="name the database file in it")
    if not stat.S_ISREG(found.st_mode):
        raise DatabaseUnreadable(f"{real} is not a regular file")
    if found.st_nlink > 1:
        raise DatabaseUnreadable(
            f"{real} has {found.st_nlink} names (hard links): SQLite would look for its journal beside each of them",
            hint=f"find the other names: find / -xdev -inum {found.st_ino}",
        )
    if not os.access(real, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise DatabaseUnreadable(f"{real} may not be read by this user", hint=f"ls -l {real}")
    sizes = {name: _size(real + name) for name in ("-wal", "-shm", "-journal")}
    if found.st_size == 0 and sizes["-wal"]:
        # pagerOpenWalIfPresent() in SQLite's pager.c removes the log of an empty database, read-only or not.
        raise DatabaseUnsettled(
            f"{real} is empty, but beside it lies a log (-wal) of {sizes['-wal']} bytes, which SQLite would remove",
            hint=f"save it first: cp {real}-wal {real}-wal.saved",
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
    )


def file_system(path: str) -> str:
    """Return the type of the file system that holds the real path `path`, empty where the system does not tell.

    From proc_pid_mountinfo(5): of the mounts that the path lies under, the longest, and of equal ones the last.
    """
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:  # no such system, or hidden
        return ""
    best, kind = -1, b""
    wanted = os.fsencode(path)
    for line in lines:
        fields, _, rest = line.partition(b" - ")
        # Blanks, tabs, newlines and backslashes of a mount point are written as three octal digits.
        mount = fields.split()[4].decode("unicode_escape").encode("latin-1").rstrip(b"/")
        if len(mount) >= best and (wanted == mount or wanted.startswith(mount + b"/")):
            best, kind = len(mount), rest.split()[0]
    return os.fsdecode(kind)


def _size(path: str) -> int | None:
    """Return the size of a file, None where there is none."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return None
