"""WAL mode, managed: looked at, switched on and off, checkpointed by a policy, explained.

| module | does |
|---|---|
| `policy` | decides when to checkpoint, and how: values, no I/O |
"""
