"""WAL mode, managed: looked at, switched on and off, checkpointed by a policy, explained.

| module | does |
|---|---|
| `policy` | decides when to checkpoint, and how: values, no I/O |
| `checkpoint` | the steps of a checkpoint that loses nothing, for whoever holds a pin |
| `presets`, `durability` | what to choose from, and what each choice can lose: values |
| `status`, `enable`, `run`, `tune` | the verbs `wal status`, `wal enable`, `wal checkpoint` and `wal tune` |
| `look`, `readers`, `reports` | what is seen of a log, who reads it, and what is told of it |
"""
