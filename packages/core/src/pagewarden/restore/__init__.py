"""Restore a database to a path, and take that back: `run_restore`, `run_undo`, and their requests."""

from pagewarden.restore.run import RestoreRequest, run_restore
from pagewarden.restore.swap import pending_intents, recover_intents
from pagewarden.restore.undo import UndoRequest, run_undo

__all__ = ["RestoreRequest", "UndoRequest", "pending_intents", "recover_intents", "run_restore", "run_undo"]
