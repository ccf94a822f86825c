"""Repair a database on a copy, by a plan that is shown first.

| module | does |
|---|---|
| `request`, `reports` | what is asked, and what is told |
| `case`, `history`, `diagnosis`, `planner` | what is known of the damage, and what is to be done about it |
| `run`, `attempt`, `work` | the verb: copies, rounds, judgement, exchange |
| `bench`, `answers`, `isolate`, `jobs` | the repairers at work, each in a process of its own |
| `compare`, `cutouts` | what could be read before, and what left the database |
"""
