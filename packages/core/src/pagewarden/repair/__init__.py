"""Repair a database on a copy, by a plan that is shown first: `run_repair` and its request."""
