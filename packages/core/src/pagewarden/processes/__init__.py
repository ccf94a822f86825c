"""Processes beside the caller's: the page reader, and what starts and talks to it.

POSIX locks belong to a process and an inode, and any close() of a database, its -wal or its -shm drops the locks of
every SQLite connection in the same process (H1). So whoever may hold a connection opens none of those files; a child
that holds no connection reads them instead, and may die of hostile bytes without harming its parent.
"""
