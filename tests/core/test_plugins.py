from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pluggy
import pytest

from pagewarden import hookspecs, installed
from pagewarden.errors import ConfigurationInvalid, PluginUnusable, RepositoryNotFound, TargetFailed
from pagewarden.events import Event
from pagewarden.plugins import Extensions, load_plugins
from pagewarden.values import Severity

TIME = datetime(2026, 11, 22, tzinfo=UTC)

CHECKER = """
from pagewarden.hookspecs import hookimpl
from pagewarden.values import Level

class Checker:
    def __init__(self, name="check-mine", level=Level.QUICK):
        self.name, self.level = name, level
    def check(self, subject):
        return []
"""
REGISTER = (
    CHECKER
    + """
@hookimpl
def pagewarden_checkers():
    return [Checker()]
"""
)
TARGET = """
from pagewarden.hookspecs import hookimpl

class Factory:
    name = "target-mine"
    def __init__(self, *schemes, outcome=None):
        self.schemes, self.outcome = schemes, outcome
    def open(self, url, *, create):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome
"""


class Site:
    """A folder of installed plugins, each a module with the metadata of a distribution."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, source: str, *, distribution: str | None = None, value: str | None = None) -> None:
        """Install a plugin called `name` as module `name` with underscores."""
        module = name.replace("-", "_")
        (self.folder / f"{module}.py").write_text(source)
        distribution = distribution or f"dist-{name}"
        info = self.folder / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[pagewarden]\n{name} = {value or module}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder of installed plugins; nothing else is installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(installed, "search_path", lambda: (str(folder),))
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def module(source: str, name: str = "made_here") -> ModuleType:
    """Make a module of source text."""
    made = ModuleType(name)
    exec(source, made.__dict__)
    return made


def fault(extensions: Extensions) -> str:
    """Return the one fault."""
    (only,) = extensions.faults
    return only


def test_an_installed_plugin_brings_its_objects(site: Site) -> None:
    """It is listed with its version, its module and what it brings."""
    site.install("check-mine", REGISTER + "__version__ = '9'\n")
    extensions = load_plugins()
    (info,) = extensions.infos
    assert [checker.name for checker in extensions.checkers] == ["check-mine"]
    assert (info.name, info.version, info.module, info.checkers, info.fault) == (
        "check-mine",
        "1.5",
        "check_mine",
        ("check-mine",),
        "",
    )
    assert extensions.report().exit_code == 0


def test_names_choose_before_anything_is_imported(site: Site) -> None:
    """`only` and `disabled` keep a plugin from being imported; it stays listed."""
    site.install("check-mine", REGISTER)
    site.install("check-bomb", "raise SystemExit(1)")
    for extensions in (load_plugins(only=["check-mine"]), load_plugins(disabled=["check-bomb", "not-there"])):
        assert [(info.name, info.disabled) for info in extensions.infos] == [
            ("check-bomb", True),
            ("check-mine", False),
        ]
        assert extensions.faults == ()
    assert load_plugins(only=[]).checkers == ()
    assert "check_bomb" not in sys.modules


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import not_a_module_of_this_name", "failed to load: ModuleNotFoundError"),
        ("raise SystemExit(1)", "failed to load: SystemExit: 1"),
        ("1 / 0", "failed to load: ZeroDivisionError: division by zero"),
        ("def broken(:", "failed to load: SyntaxError"),
        (CHECKER, "implements no hook"),
        (CHECKER + "@hookimpl\ndef pagewarden_chekcers(): return []", "broke its contract: unknown hook"),
        (CHECKER + "@hookimpl\ndef pagewarden_checkers(config): return []", "broke its contract: Plugin"),
        (CHECKER + "@hookimpl(wrapper=True)\ndef pagewarden_checkers(): return (yield)", "broke its contract: "),
        (CHECKER + "@hookimpl\ndef pagewarden_checkers(): 1 / 0", "pagewarden_checkers failed: ZeroDivisionError"),
        (CHECKER + "@hookimpl\ndef pagewarden_checkers(): pass", "pagewarden_checkers failed: TypeError"),
        (CHECKER + "@hookimpl\ndef pagewarden_checkers(): return [7]", "returned int, which is no Checker"),
        (CHECKER + "@hookimpl\ndef pagewarden_checkers(): return [Checker]", "which is no Checker"),
        (CHECKER + "@hookimpl\ndef pagewarden_checkers(): return [Checker('Check Mine')]", "its name is 'Check Mine'"),
        (CHECKER + "@hookimpl\ndef pagewarden_checkers(): return [Checker(None)]", "its name is None"),
        (CHECKER + "@hookimpl\ndef pagewarden_checkers(): return [Checker(level='deep!')]", "which is no Level"),
        (CHECKER + "Checker.check = 3\n@hookimpl\ndef pagewarden_checkers(): return [Checker()]", "cannot be called"),
        (TARGET + "@hookimpl\ndef pagewarden_targets(): return [Factory()]", "names no URL schemes"),
        (TARGET + "@hookimpl\ndef pagewarden_targets(): return [Factory('a b')]", "'a b', which is no URL scheme"),
        (TARGET + "@hookimpl\ndef pagewarden_targets(): return [Factory(3)]", "3, which is no URL scheme"),
    ],
)
def test_whatever_is_wrong_is_a_listed_fault(site: Site, source: str, what: str) -> None:
    """It names the plugin, leaves the others alone, and is an error where somebody asked for the plugin by name."""
    site.install("check-other", REGISTER)
    site.install("x-broken", source)
    extensions = load_plugins()
    assert what in fault(extensions)
    assert fault(extensions).startswith("plugin x-broken: ")
    assert [checker.name for checker in extensions.checkers] == ["check-mine"]
    assert extensions.report().exit_code == 1
    with pytest.raises(PluginUnusable, match="plugin x-broken cannot be used"):
        load_plugins(only=["x-broken", "check-other"])
    assert load_plugins(disabled=["x-broken"]).faults == ()


def test_an_entry_point_that_names_nothing_is_a_fault(site: Site) -> None:
    """An attribute that is not there, and one that is None."""
    site.install("a-missing", "x = None", value="a_missing:y")
    site.install("b-none", "x = None", value="b_none:x")
    assert [fault.split(": ", 2)[1] for fault in load_plugins().faults] == ["failed to load", "failed to load"]


def test_a_plugin_that_was_asked_for_must_be_there(site: Site) -> None:
    """By the name of an installed one, or as a module."""
    with pytest.raises(PluginUnusable, match="plugin check-mine is not installed"):
        load_plugins(only=["check-mine"])
    with pytest.raises(PluginUnusable, match=r"plugin no\.such_module cannot be used: failed to load"):
        load_plugins(extra=["no.such_module"])


def test_a_module_without_hooks_is_no_plugin() -> None:
    """Somebody who names one has named the wrong one."""
    with pytest.raises(PluginUnusable, match="plugin made_here cannot be used: implements no hook"):
        load_plugins(only=[], extra=[module("x = 1")])


@pytest.mark.parametrize("argument", ["only", "disabled", "extra"])
def test_a_text_is_no_list_of_names(argument: str) -> None:
    """Its letters would be taken for names."""
    with pytest.raises(ConfigurationInvalid, match=f'{argument} is "check-pragma", not a list') as caught:
        load_plugins(**{argument: "check-pragma"})
    assert caught.value.hint == f'give a list: {argument}=["check-pragma"]'


def test_the_later_of_two_equal_names_is_a_fault(site: Site) -> None:
    """Whatever the order of installation: plugins are sorted by name, so it is always the same one."""
    site.install("z-first-installed", REGISTER)
    site.install("a-second-installed", REGISTER)
    extensions = load_plugins()
    assert fault(extensions) == (
        "plugin z-first-installed: the checker name check-mine is taken by plugin a-second-installed"
    )
    assert len(extensions.checkers) == 1


def test_the_later_of_two_equal_schemes_is_a_fault(site: Site) -> None:
    """The factory's other schemes are its own."""
    site.install("target-a", TARGET + "@hookimpl\ndef pagewarden_targets(): return [Factory('x')]")
    site.install("target-b", TARGET + "@hookimpl\ndef pagewarden_targets(): return [Factory('x', 'y')]")
    extensions = load_plugins()
    assert fault(extensions) == 'plugin target-b: the URL scheme "x" is taken by plugin target-a'
    assert [info.targets for info in extensions.infos] == [("x",), ("y",)]
    assert len(extensions.targets) == 2


def test_two_distributions_with_one_plugin_name_are_a_fault(site: Site) -> None:
    """The first by the distribution's name is used."""
    site.install("check-mine", REGISTER, distribution="dist-a")
    info = site.folder / "dist_b-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dist-b\nVersion: 2\n")
    (info / "entry_points.txt").write_text("[pagewarden]\ncheck-mine = check_mine\nother = check_mine\n")
    extensions = load_plugins()
    assert extensions.faults == (
        "plugin check-mine: another distribution brings a plugin of that name",
        "plugin other: is the same as plugin check-mine",
    )
    assert len(extensions.checkers) == 1


def test_extra_plugins_come_from_the_caller(site: Site) -> None:
    """A module, a module's name, an object with hook implementations; the same one twice is once."""
    site.install("check-mine", REGISTER)
    made = module(REGISTER.replace("check-mine", "check-made") + "__version__ = '3'")

    class Observer:
        def __init__(self) -> None:
            self.seen: list[Event] = []

    source = "from pagewarden.hookspecs import hookimpl\nclass O:\n  @hookimpl\n  def pagewarden_on_event(self): pass\n"
    extensions = load_plugins(extra=[made, made, "check_mine", module(source).O()])
    assert [checker.name for checker in extensions.checkers] == ["check-made", "check-mine"]
    assert [(info.name, info.version) for info in extensions.infos][:2] == [("check-mine", "1.5"), ("made_here", "3")]
    assert [info.observes for info in extensions.infos] == [False, False, True]
    extensions.emit(Event(name="x", time=TIME))
    assert extensions.faults == ()


def test_an_installed_plugin_that_is_disabled_can_be_brought_by_the_caller(site: Site) -> None:
    """What the caller brings is used."""
    site.install("check-mine", REGISTER)
    extensions = load_plugins(disabled=["check-mine"], extra=["check_mine"])
    assert [(info.name, info.disabled) for info in extensions.infos] == [("check-mine", True), ("check_mine", False)]
    assert len(extensions.checkers) == 1


OBSERVER = """
from pagewarden.hookspecs import hookimpl
seen = []
@hookimpl
def pagewarden_on_event(event):
    seen.append(event.name)
    if event.name == "bad": raise ValueError("not\\nmine")
"""


def test_observers_see_events_and_cannot_stop_them() -> None:
    """What one raises is a fault of its plugin, once; the next is told, and so is it of the next event."""
    first, second = module(OBSERVER, "first"), module(OBSERVER, "second")
    extensions = load_plugins(only=[], extra=[first, second])
    for name in ("good", "bad", "bad", "good"):
        extensions.emit(Event(name=name, time=TIME))
    assert first.__dict__["seen"] == second.__dict__["seen"] == ["good", "bad", "bad", "good"]
    assert sorted(extensions.faults) == [
        "plugin first: observing bad failed: ValueError: not mine",
        "plugin second: observing bad failed: ValueError: not mine",
    ]


NOTIFIER = """
from pagewarden.hookspecs import hookimpl
class Notifier:
    def __init__(self, name, notify): self.name, self.notify = name, notify
told = []
def fail(notice): raise OSError("no network")
def hang(notice): wait.wait(30)
@hookimpl
def pagewarden_notifiers():
    return [Notifier("a-fails", fail), Notifier("b-hangs", hang), Notifier("c-tells", told.append)]
"""


def test_a_notifier_that_fails_or_hangs_keeps_no_other_from_telling(caplog: pytest.LogCaptureFixture) -> None:
    """Each has its time; what failed is returned and logged."""
    from pagewarden.contracts import Notice

    made = module(NOTIFIER)
    wait = made.__dict__["wait"] = threading.Event()
    extensions = load_plugins(only=[], extra=[made])
    notice = Notice(title="t", body="b", severity=Severity.DAMAGE, database="d", time=TIME)
    failures = extensions.notify(notice, seconds=0.2)
    wait.set()
    assert failures == (
        "notifier a-fails failed: OSError: no network",
        "notifier b-hangs did not end within 0.2 s",
    )
    assert made.__dict__["told"] == [notice]
    assert [record.message for record in caplog.records] == list(failures)
    assert [info.notifiers for info in extensions.infos][-1] == ("a-fails", "b-hangs", "c-tells")


def repairers() -> ModuleType:
    """Make a plugin with a repairer."""
    source = """
from pagewarden.hookspecs import hookimpl
class R:
    name = "repair-mine"
    def plan(self, case): return []
    def apply(self, bench, steps): pass
@hookimpl
def pagewarden_repairers(): return [R()]
"""
    return module(source)


def test_repairers_are_collected() -> None:
    """In order of their names."""
    assert [repairer.name for repairer in load_plugins(only=[], extra=[repairers()]).repairers] == ["repair-mine"]


def opening(outcome: object) -> Extensions:
    """Return extensions whose scheme `mine` opens with `outcome`."""
    made = module(TARGET)
    made.__dict__["outcome"] = outcome
    exec("@hookimpl\ndef pagewarden_targets(): return [Factory('mine', '', outcome=outcome)]", made.__dict__)
    return load_plugins(only=[], extra=[made])


@pytest.mark.parametrize(
    ("outcome", "error", "message"),
    [
        (FileNotFoundError("gone"), RepositoryNotFound, "there is no repository at mine://x: gone"),
        (PermissionError("no"), TargetFailed, "mine://x cannot be opened: no"),
        (KeyError("k"), PluginUnusable, "target target-mine failed to open mine://x: KeyError: 'k'"),
        (ConfigurationInvalid("wrong"), ConfigurationInvalid, "wrong"),
        (7, PluginUnusable, r"TargetFactory\.open returned int, which is no Target"),
    ],
)
def test_errors_of_a_target_are_ours(outcome: object, error: type[Exception], message: str) -> None:
    """Callers meet the project's errors only."""
    with pytest.raises(error, match=message):
        opening(outcome).target("mine://x")


def test_the_scheme_chooses_the_target() -> None:
    """Case does not matter, a plain path has none, and a scheme that nobody opens is an error with a way out."""
    extensions = opening(FileNotFoundError("gone"))
    for url in ("MINE://x", "mine://x", "/plain/path", "with:colon"):
        with pytest.raises(RepositoryNotFound):
            extensions.target(url)
    with pytest.raises(PluginUnusable, match="no plugin opens other:// URLs, as in other://x"):
        extensions.target("other://x")
    with pytest.raises(PluginUnusable, match="no plugin opens plain paths") as caught:
        load_plugins(only=[]).target("/plain/path")
    assert caught.value.hint.startswith("target-directory was left out: add it to `plugins`")


def test_a_url_of_a_plugin_that_is_not_installed_names_it() -> None:
    """Object stores are an optional plugin; and whatever looks like a password is not shown."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    extensions = Extensions([], manager)  # nothing is installed
    with pytest.raises(PluginUnusable, match=r"no plugin opens s3:// URLs, as in s3://…@bucket/p") as caught:
        extensions.target("s3://key:secret@bucket/p")
    assert caught.value.hint == "install pagewarden-target-object-store; docs/object-stores.md"
    with pytest.raises(PluginUnusable) as caught:
        load_plugins(only=[]).target("s3://bucket/p")
    assert "target-object-store" in caught.value.hint and "left out" in caught.value.hint
