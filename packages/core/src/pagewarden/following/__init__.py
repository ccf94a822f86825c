"""Following a database in WAL mode, commit by commit, outside SQLite. Runs in the page reader (H1).

docs/live-read.md says how, and why no commit is missed. `values` has what travels, `follower` puts it all together.
"""
