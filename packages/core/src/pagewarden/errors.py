"""The errors that callers meet: one tree, each leaf with its exit code and its anchor in docs/errors.md.

Damage is data, not an exception: what a check finds is a `Finding`. An error means that the work itself could
not be done, and that nothing was lost.
"""

from __future__ import annotations


class PagewardenError(Exception):
    """Something failed in a way that Pagewarden did not foresee."""

    slug = "internal-error"
    exit_code = 70
    usual_hint = "run the command again with --debug, and report what it prints"

    def __init__(self, message: str, *, hint: str = "", **fields: object) -> None:
        """`message` is lower-case and names what and where; `hint` is the next command; `fields` are plain values.

        Without a `hint` the class's own stands, which names no paths.
        """
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint
        self.fields = fields

    def __str__(self) -> str:
        return self.message


class ConfigurationInvalid(PagewardenError):
    """The configuration, an option or an argument is wrong."""

    slug = "configuration-invalid"
    exit_code = 2
    usual_hint = "pagewarden config example shows every key, pagewarden VERB --help every option"


class DatabaseNotFound(PagewardenError):
    """There is no database at the path."""

    slug = "database-not-found"
    exit_code = 10
    usual_hint = "name the database file; ls -l shows what is there"


class NotADatabase(PagewardenError):
    """The file is not a SQLite database, or it is encrypted."""

    slug = "not-a-database"
    exit_code = 11
    usual_hint = "look at its first bytes: head -c 16 FILE | xxd"


class DatabaseUnreadable(PagewardenError):
    """The database is there but cannot be read: permission, a directory, a device, a hard link, an I/O error."""

    slug = "database-unreadable"
    exit_code = 12
    usual_hint = "pagewarden doctor DB looks at its surroundings"


class DatabaseBusy(PagewardenError):
    """Another process holds the database in a way that does not let the work go on."""

    slug = "database-busy"
    exit_code = 13
    usual_hint = "wait for the other process, or stop it"


class DatabaseUnsettled(PagewardenError):
    """The database changed under every attempt to read it, was replaced, or waits for a journal to be rolled back."""

    slug = "database-unsettled"
    exit_code = 14
    usual_hint = "try again"


class NotInWalMode(PagewardenError):
    """The database is not in WAL mode, so its commits cannot be followed."""

    slug = "not-in-wal-mode"
    exit_code = 15
    usual_hint = "pagewarden wal enable DB"


class WalRefused(PagewardenError):
    """To switch the journal mode, or to checkpoint, would not be safe there, or cannot be done; nothing was changed."""

    slug = "wal-refused"
    exit_code = 16
    usual_hint = "pagewarden wal status DB shows how it stands"


class RepositoryNotFound(PagewardenError):
    """There is no repository at the URL, or it holds nothing of that name."""

    slug = "repository-not-found"
    exit_code = 20
    usual_hint = "pagewarden backups --repo URL lists what a repository holds"


class RepositoryDamaged(PagewardenError):
    """Something stored in the repository is not what was stored there."""

    slug = "repository-damaged"
    exit_code = 21
    usual_hint = "pagewarden verify --repo URL --read-data tells which restore points are whole"


class RepositoryBusy(PagewardenError):
    """Another backup of the same database is under way, or was first; nothing was lost, and this one left nothing."""

    slug = "repository-busy"
    exit_code = 22
    usual_hint = "try again when the other backup has ended"


class TargetFailed(PagewardenError):
    """The storage under the repository refused or failed."""

    slug = "target-failed"
    exit_code = 23
    usual_hint = "look at the permissions and the disk there"


class DeletionRefused(PagewardenError):
    """The storage under the repository does not let this user remove objects; nothing was removed."""

    slug = "deletion-refused"
    exit_code = 24
    usual_hint = "let somebody who may delete there run pagewarden prune"


class SharedWritingRefused(PagewardenError):
    """The storage replaces objects where it was told to store only if absent, so two writers would lose a backup."""

    slug = "shared-writing-refused"
    exit_code = 25
    usual_hint = "choose a store with conditional puts; docs/object-stores.md"


class RestoreRefused(PagewardenError):
    """The restore, undo or injury would touch something that must not be touched."""

    slug = "restore-refused"
    exit_code = 30
    usual_hint = "choose another path"


class VerificationFailed(PagewardenError):
    """What was written did not read back as it was meant to be; it was not used."""

    slug = "verification-failed"
    exit_code = 31
    usual_hint = "look at the disk and the memory of this machine, then try again"


class OutOfSpace(PagewardenError):
    """A file system is full; what was half-written has been removed."""

    slug = "out-of-space"
    exit_code = 32
    usual_hint = "free space there, then try again"


class RepairRefused(PagewardenError):
    """The repair would lose what could be read before, or touch what must not be touched; nothing was changed."""

    slug = "repair-refused"
    exit_code = 33
    usual_hint = "pagewarden repair DB shows the plan"


class PluginUnusable(PagewardenError):
    """A plugin that was asked for is not installed, failed to load, or broke its contract."""

    slug = "plugin-unusable"
    exit_code = 40
    usual_hint = "pagewarden plugins lists what is installed, with its faults"


class NativeMissing(PagewardenError):
    """PAGEWARDEN_NATIVE=require, and the native module cannot be used."""

    slug = "native-missing"
    exit_code = 41
    usual_hint = "pip install pagewarden-native, or set PAGEWARDEN_NATIVE=prefer"


class ReaderCrashed(PagewardenError):
    """The page-reader process died; the caller, its connections and the database are unharmed."""

    slug = "reader-crashed"
    exit_code = 50
    usual_hint = "try again; if it happens again on the same file, report it"


class WorkerCrashed(PagewardenError):
    """The worker process died or answered nonsense; the application and the database are unharmed."""

    slug = "worker-crashed"
    exit_code = 51
    usual_hint = "try again: the next call starts another worker"


class GuardFailed(PagewardenError):
    """The guard of a database did not answer, ended, or could not do in time what it was asked for."""

    slug = "guard-failed"
    exit_code = 52
    usual_hint = "look at its log, or start it again: pagewarden run DB --repo URL"


class LedgerUnusable(PagewardenError):
    """The ledger, in the state directory, cannot be read or written, or is of a newer version."""

    slug = "ledger-unusable"
    exit_code = 60
    usual_hint = "ls -l ~/.local/state/pagewarden"


def error_classes() -> dict[str, type[PagewardenError]]:
    """Return every error class by its slug, the base included."""
    classes: dict[str, type[PagewardenError]] = {PagewardenError.slug: PagewardenError}
    classes.update({leaf.slug: leaf for leaf in PagewardenError.__subclasses__()})
    return classes


def to_wire(error: PagewardenError) -> dict[str, object]:
    """Return `error` as plain values, for another process or for --json."""
    return {"slug": error.slug, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}


def from_wire(value: dict[str, object]) -> PagewardenError:
    """Return the error that `to_wire` described; an unknown slug becomes the base class."""
    leaf = error_classes().get(str(value.get("slug")), PagewardenError)
    return leaf(str(value.get("message", "")), hint=str(value.get("hint", "")))
