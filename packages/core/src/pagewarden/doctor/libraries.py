"""Which SQLite libraries a process has loaded: two of them break each other's locks (H2).

Read from /proc/PID/maps. Told by the names of files that are known to carry SQLite; one that is linked into a program
under another name is not seen.
"""

from __future__ import annotations

import re
from pathlib import Path

# Files that hold a SQLite of their own, by what their path ends in.
_CARRIERS = re.compile(
    r"/(?:libsqlite3[^/]*\.(?:so|dylib)[^/]*|libsqlcipher[^/]*\.so[^/]*|libsqlitejdbc[^/]*|libe_sqlite3[^/]*"
    r"|better_sqlite3\.node|node_sqlite3\.node|apsw/[^/]+\.so|pysqlite3/[^/]+\.so|sqlean/[^/]+\.so"
    r"|sqlcipher3/[^/]+\.so)$"
)
# Python's own module: it is linked with the system's library, or holds one where no libsqlite3 is loaded beside it.
_STANDARD = re.compile(r"/lib-dynload/_sqlite3\.[^/]+\.so$")


def sqlite_libraries(pid: int | str) -> tuple[str, ...]:
    """Return the paths of the SQLite libraries that process `pid` has loaded, as far as that can be seen.

    Raises OSError where the process cannot be looked into.
    """
    files: set[str] = set()
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6:
            files.add(fields[5].removesuffix(" (deleted)"))
    carriers = {file for file in files if _CARRIERS.search(file)}
    if not any("/libsqlite3" in file for file in carriers):
        carriers |= {file for file in files if _STANDARD.search(file)}
    return tuple(sorted(carriers))
