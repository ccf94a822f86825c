"""What is installed: plugins are found, imported, asked once for their objects, and what is wrong becomes a fault.

1. Entry points of the group `pagewarden` name the installed plugins; a plugin is an importable module (or an object in
   one) with hook implementations. `only` and `disabled` choose among them by name, before anything is imported.
2. Each is registered with pluggy, which checks the hooks' names and arguments.
3. Each registering hook is called once and by itself: pluggy's own call would end at the first exception. What it
   returns is held against its protocol in `pagewarden.contracts`.
4. Whatever fails is a fault of that plugin and leaves the others alone. A plugin that was *named* (in `only` or
   `extra`) and has a fault is a `PluginUnusable` error instead: somebody counts on it.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pluggy

from pagewarden import hookspecs, installed
from pagewarden.contracts import Checker, Notice, Notifier, Repairer, Target, TargetFactory
from pagewarden.deadline import call_with_deadline
from pagewarden.errors import ConfigurationInvalid, PagewardenError, PluginUnusable, RepositoryNotFound, TargetFailed
from pagewarden.events import Event
from pagewarden.values import Level

if TYPE_CHECKING:
    import logging

    from pagewarden.values import PluginInfo, PluginsReport

GROUP = "pagewarden"
"""The entry-point group that a plugin registers in."""

NOTIFIER_SECONDS = 20.0
"""How long one notifier may take; a slow mail server must not hold up the next check."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)?")
# RFC 3986 section 3.1. Without the two slashes it is a plain path, which may hold a colon.
_URL_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Named(Protocol):
    """What all objects of plugins but targets have."""

    name: str


N = TypeVar("N", bound=Named)

_OURS = {
    **dict.fromkeys(("", "file"), "target-directory"),
    **dict.fromkeys(("s3", "gs", "az"), "target-object-store"),  # optional
}
"""Our own targets by the URL schemes that they open, for hints: one that is left out is not imported."""


@dataclass(slots=True)
class _Plugin:
    """One plugin while it is being loaded; becomes a PluginInfo."""

    name: str
    version: str
    module: str
    named: bool = False  # whether somebody asked for it by name, so that a fault is fatal
    disabled: bool = False
    importable: bool = True  # by `module`, so that another process can have it, too
    checkers: list[str] = field(default_factory=list)
    repairers: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    notifiers: list[str] = field(default_factory=list)
    observes: bool = False
    faults: list[str] = field(default_factory=list)

    def info(self) -> PluginInfo:
        from pagewarden.values import PluginInfo

        return PluginInfo(
            name=self.name,
            version=self.version,
            module=self.module,
            checkers=tuple(self.checkers),
            repairers=tuple(self.repairers),
            targets=tuple(self.targets),
            notifiers=tuple(self.notifiers),
            observes=self.observes,
            disabled=self.disabled,
            fault="; ".join(self.faults),
        )


class Extensions:
    """What the loaded plugins brought, typed; made by `load_plugins`. May be used by any thread."""

    def __init__(self, plugins: list[_Plugin], manager: pluggy.PluginManager) -> None:
        self._plugins = plugins
        self._manager = manager
        self._lock = threading.Lock()
        self._checkers: dict[str, Checker] = {}
        self._repairers: dict[str, Repairer] = {}
        self._schemes: dict[str, TargetFactory] = {}
        self._notifiers: dict[str, Notifier] = {}
        for name, _ in manager.list_name_plugin():
            self._collect(next(plugin for plugin in plugins if plugin.name == name))

    @property
    def checkers(self) -> tuple[Checker, ...]:
        """The checkers, in order of their names."""
        return tuple(self._checkers[name] for name in sorted(self._checkers))

    def home(self, checker: str) -> str | None:
        """Return the module, or "module:object", from which another process gets a checker; None where it cannot.

        That is so of one whose plugin is an object that an application made, and of one that asks for this process.
        """
        plugin = next(plugin for plugin in self._plugins if checker in plugin.checkers)
        if not plugin.importable or getattr(self._checkers[checker], "in_process", False):
            return None
        return plugin.module

    @property
    def repairers(self) -> tuple[Repairer, ...]:
        """The repairers, in order of their names."""
        return tuple(self._repairers[name] for name in sorted(self._repairers))

    def repairer_home(self, repairer: str) -> str | None:
        """Return the module, or "module:object", from which another process gets a repairer; None where it cannot."""
        plugin = next(plugin for plugin in self._plugins if repairer in plugin.repairers)
        return plugin.module if plugin.importable else None

    @property
    def targets(self) -> tuple[TargetFactory, ...]:
        """The target factories, in order of their names; each once, whatever schemes it opens."""
        factories = {id(factory): factory for factory in self._schemes.values()}
        return tuple(sorted(factories.values(), key=lambda factory: factory.name))

    @property
    def notifiers(self) -> tuple[Notifier, ...]:
        """The notifiers, in order of their names."""
        return tuple(self._notifiers[name] for name in sorted(self._notifiers))

    @property
    def infos(self) -> tuple[PluginInfo, ...]:
        """Every plugin that was found, loaded or not, with its faults so far."""
        with self._lock:
            return tuple(plugin.info() for plugin in self._plugins)

    @property
    def faults(self) -> tuple[str, ...]:
        """Everything that is wrong, one sentence each, naming the plugin."""
        with self._lock:
            return tuple(f"plugin {plugin.name}: {fault}" for plugin in self._plugins for fault in plugin.faults)

    def report(self) -> PluginsReport:
        """Return what the verb `plugins` prints."""
        from pagewarden.values import PluginsReport

        return PluginsReport(plugins=self.infos, faults=self.faults)

    def target(self, url: str, *, create: bool = False) -> Target:
        """Open the storage at `url` with the plugin for its scheme; a URL without one is a plain path.

        Raises PluginUnusable for a scheme that nobody opens, RepositoryNotFound where nothing is there and `create` is
        false, TargetFailed where the storage refuses.
        """
        match = _URL_SCHEME.match(url)
        scheme = match[1].lower() if match else ""
        factory = self._schemes.get(scheme)
        if factory is None:
            what = f"{scheme}:// URLs" if scheme else "plain paths"
            shown = re.sub(r"//[^/]*@", "//…@", url)  # whoever takes part of a URL for a password does not see it here
            raise PluginUnusable(f"no plugin opens {what}, as in {shown}", hint=self._left_out_hint(scheme))
        try:
            target: object = factory.open(url, create=create)
        except PagewardenError:
            raise
        except FileNotFoundError as error:
            raise RepositoryNotFound(
                f"there is no repository at {url}: {error}",
                hint=f"pagewarden backup DATABASE --repo {shlex.quote(url)}",
            ) from error
        except OSError as error:
            raise TargetFailed(f"{url} cannot be opened: {error}") from error
        except Exception as error:
            raise PluginUnusable(f"target {factory.name} failed to open {url}: {_say(error)}") from error
        if not isinstance(target, Target):
            raise PluginUnusable(
                f"target {factory.name} broke its contract: TargetFactory.open returned {type(target).__name__}, "
                "which is no Target"
            )
        return target

    def emit(self, event: Event) -> None:
        """Show `event` to every observer. What one raises is noted as a fault of its plugin, and the next is told."""
        for implementation in self._manager.hook.pagewarden_on_event.get_hookimpls():
            try:
                implementation.function(*(event for _ in implementation.argnames))
            except Exception as error:  # noqa: BLE001 - foreign code: an observer cannot stop a run
                _log().debug("observer %s failed", implementation.plugin_name, exc_info=error)
                self._blame(implementation.plugin_name, f"observing {event.name} failed: {_say(error)}")

    def notify(self, notice: Notice, *, seconds: float = NOTIFIER_SECONDS) -> tuple[str, ...]:
        """Deliver `notice` through every notifier; return what failed, one sentence each. Never raises what they raise.

        Each has `seconds`; one that hangs is abandoned.
        """
        failures: list[str] = []
        for notifier in self.notifiers:
            ended = call_with_deadline(
                lambda notifier=notifier: notifier.notify(notice),  # type: ignore[misc]
                name=f"notifier {notifier.name}",
                seconds=seconds,
                grace=0.0,
            )
            if ended.late:
                failures.append(f"notifier {notifier.name} did not end within {seconds:g} s")
            elif ended.error is not None:
                failures.append(f"notifier {notifier.name} failed: {_say(ended.error)}")
        for failure in failures:
            _log().warning("%s", failure)
        return tuple(failures)

    def _left_out_hint(self, scheme: str) -> str:
        """Return what to do where no plugin opens a URL: most likely one was left out by name, or not installed."""
        targets = [plugin.name for plugin in self._plugins if plugin.disabled and plugin.name.startswith("target-")]
        ours = _OURS.get(scheme)
        if ours in targets:
            targets = [ours]
        elif ours == "target-object-store":
            return f"install pagewarden-{ours}; docs/object-stores.md"
        if not targets:
            return "pagewarden plugins"
        names = " or ".join(targets)
        return (
            f"{names} was left out: add it to `plugins` (in a configuration: to `only`, and take it out of `disabled`)"
        )

    def _blame(self, plugin: str, fault: str) -> None:
        with self._lock:
            for candidate in self._plugins:
                if candidate.name == plugin and fault not in candidate.faults:
                    candidate.faults.append(fault)

    def _collect(self, plugin: _Plugin) -> None:
        """Call the registering hooks of one plugin, and sort what they return into the tables."""
        for checker in self._objects(plugin, "pagewarden_checkers", Checker, ("check",)):
            level: object = checker.level
            if not isinstance(level, Level):
                plugin.faults.append(f"checker {checker.name} has level {level!r}, which is no Level")
            elif self._claim(plugin, "checker", checker, self._checkers):
                plugin.checkers.append(checker.name)
        for repairer in self._objects(plugin, "pagewarden_repairers", Repairer, ("plan", "apply")):
            if self._claim(plugin, "repairer", repairer, self._repairers):
                plugin.repairers.append(repairer.name)
        for notifier in self._objects(plugin, "pagewarden_notifiers", Notifier, ("notify",)):
            if self._claim(plugin, "notifier", notifier, self._notifiers):
                plugin.notifiers.append(notifier.name)
        for factory in self._objects(plugin, "pagewarden_targets", TargetFactory, ("open",)):
            self._claim_schemes(plugin, factory)
        plugin.observes = any(
            implementation.plugin_name == plugin.name
            for implementation in self._manager.hook.pagewarden_on_event.get_hookimpls()
        )

    def _objects(self, plugin: _Plugin, hook: str, contract: type, methods: tuple[str, ...]) -> list[Any]:
        """Return what `plugin` registers through `hook` and meets `contract`; the rest becomes faults."""
        found: list[Any] = []
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            if implementation.plugin_name != plugin.name:
                continue
            try:
                registered = list(implementation.function())
            except Exception as error:  # noqa: BLE001 - foreign code: what it raises is a listed fault
                plugin.faults.append(f"{hook} failed: {_say(error)}")
                continue
            for candidate in registered:
                broken = _broken(candidate, contract, methods)
                if broken:
                    plugin.faults.append(f"{hook} returned {broken}")
                else:
                    found.append(candidate)
        return found

    def _claim(self, plugin: _Plugin, kind: str, candidate: N, table: dict[str, N]) -> bool:
        """Enter `candidate` into `table` under its name; a name that is taken is a fault of the later plugin."""
        if candidate.name in table:
            owner = next(other.name for other in self._plugins if candidate.name in getattr(other, f"{kind}s"))
            plugin.faults.append(f"the {kind} name {candidate.name} is taken by plugin {owner}")
            return False
        table[candidate.name] = candidate
        return True

    def _claim_schemes(self, plugin: _Plugin, factory: TargetFactory) -> None:
        schemes: object = factory.schemes
        if not isinstance(schemes, tuple) or not schemes:
            plugin.faults.append(f"target {factory.name} names no URL schemes: {schemes!r} is no tuple of strings")
            return
        for scheme in schemes:
            if not isinstance(scheme, str) or not _SCHEME.fullmatch(scheme):
                plugin.faults.append(f"target {factory.name} has {scheme!r}, which is no URL scheme")
            elif scheme in self._schemes:
                owner = next(other.name for other in self._plugins if scheme in other.targets)
                plugin.faults.append(f'the URL scheme "{scheme}" is taken by plugin {owner}')
            else:
                self._schemes[scheme] = factory
                plugin.targets.append(scheme)


def load_plugins(
    *,
    only: Iterable[str] | None = None,
    disabled: Iterable[str] = (),
    extra: Iterable[str | ModuleType | object] = (),
) -> Extensions:
    """Find, import and ask the plugins; return what they brought.

    `only`: use these installed plugins and no others; `disabled`: do without these; `extra`: modules (or names of
    modules, or objects with hook implementations) to use beside the installed ones. Raises PluginUnusable if one named
    in `only` or `extra` is missing or has a fault; faults of the others are listed in `Extensions.faults`. Raises
    ConfigurationInvalid for a text where names are expected: its letters are none.
    """
    for argument, names in (("only", only), ("disabled", disabled), ("extra", extra)):
        if isinstance(names, str):
            raise ConfigurationInvalid(
                f'{argument} is "{names}", not a list of names', hint=f'give a list: {argument}=["{names}"]'
            )
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    wanted = None if only is None else frozenset(only)
    unwanted = frozenset(disabled)
    plugins: list[_Plugin] = []
    for entry in sorted(installed.entry_points(GROUP), key=_entry_order):
        plugin = _Plugin(
            name=entry.name,
            version=entry.version,
            module=entry.value,
            named=wanted is not None and entry.name in wanted,
            disabled=entry.name in unwanted or (wanted is not None and entry.name not in wanted),
        )
        if any(entry.name == other.name for other in plugins):
            plugin.faults.append("another distribution brings a plugin of that name")
        elif not plugin.disabled:
            _register(manager, plugin, entry.load)
        plugins.append(plugin)
    missing = (wanted or frozenset()) - {plugin.name for plugin in plugins}
    if missing:
        raise PluginUnusable(f"plugin {min(missing)} is not installed", hint="pagewarden plugins")
    for candidate in extra:
        _register_extra(manager, plugins, candidate)
    extensions = Extensions(plugins, manager)
    for plugin in plugins:
        if plugin.named and plugin.faults and not plugin.disabled:
            raise PluginUnusable(f"plugin {plugin.name} cannot be used: {plugin.faults[0]}", hint="pagewarden plugins")
    return extensions


def _entry_order(entry: installed.EntryPoint) -> tuple[str, str, str]:
    return (entry.name, entry.distribution, entry.value)


def _register_extra(manager: pluggy.PluginManager, plugins: list[_Plugin], candidate: object) -> None:
    """Register a module, a module's name or an object that the caller brought; twice the same is once."""
    if isinstance(candidate, str):
        name = candidate
    else:
        name = getattr(candidate, "__name__", None) or f"{type(candidate).__module__}.{type(candidate).__qualname__}"

    def load() -> object:
        return importlib.import_module(candidate) if isinstance(candidate, str) else candidate

    module = sys.modules.get(candidate) if isinstance(candidate, str) else candidate
    if any(name == other.name for other in plugins) or (module is not None and manager.is_registered(module)):
        return
    importable = isinstance(candidate, str) or (
        sys.modules.get(name) is candidate and getattr(candidate, "__spec__", None) is not None
    )
    plugin = _Plugin(name=name, version="", module=name, named=True, importable=importable)
    _register(manager, plugin, load)
    plugins.append(plugin)


def _register(manager: pluggy.PluginManager, plugin: _Plugin, load: Callable[[], Any]) -> None:
    """Import one plugin and hand it to pluggy; what goes wrong is noted in `plugin`."""
    try:
        module = load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code: an import may raise anything
        plugin.faults.append(f"failed to load: {_say(error)}")
        return
    if module is None:
        plugin.faults.append("failed to load: it is None")
        return
    if manager.is_registered(module):
        plugin.faults.append(f"is the same as plugin {manager.get_name(module)}")
        return
    version = getattr(module, "__version__", "")
    plugin.version = plugin.version or (version if isinstance(version, str) else "")
    try:
        manager.register(module, name=plugin.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        if manager.has_plugin(plugin.name):
            manager.unregister(name=plugin.name)
        plugin.faults.append(f"broke its contract: {' '.join(str(error).split())}")
        return
    callers = manager.get_hookcallers(module) or ()
    if not callers:
        manager.unregister(name=plugin.name)
        plugin.faults.append("implements no hook: none of its functions is marked with @hookimpl")
        return
    for caller in callers:
        if any(impl.plugin is module and (impl.wrapper or impl.hookwrapper) for impl in caller.get_hookimpls()):
            manager.unregister(name=plugin.name)
            plugin.faults.append(f"broke its contract: {caller.name} is a wrapper, and hooks only register")
            return


def _broken(candidate: object, contract: type, methods: tuple[str, ...]) -> str:
    """Return how `candidate` fails to meet `contract`, "" if it meets it."""
    what = f"{type(candidate).__name__}, which is no {contract.__name__}"
    if not isinstance(candidate, contract):
        return what
    name: object = getattr(candidate, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"{what}: its name is {name!r}, not lower-case words with hyphens"
    for method in methods:
        if not callable(getattr(candidate, method)):
            return f"{what}: {method} cannot be called"
    return ""


def _log() -> logging.Logger:
    import logging  # costs more than all that is logged, which is nothing as long as nothing fails

    return logging.getLogger("pagewarden.plugins")


def _say(error: BaseException) -> str:
    """Return an exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
