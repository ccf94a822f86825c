"""The guard: follows every commit of a database into a repository, keeps its log small, and looks for rot.

docs/following.md says what it does for people. Inside: `guard` is the door; `keeper` begins, heals and waits; `loop`
follows; `pins`, `spool`, `shipping`, `watch`, `control` and `only` are what they are called; `board` is what other
threads see. Reading the log is the page reader's (`pagewarden.following`), because this process holds connections (H1).
"""
