"""The configuration: every key, every mistake with its fix, and what wins over what."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest

from pagewarden.config import (
    SECTIONS,
    Configuration,
    RetentionSettings,
    absolute_url,
    as_plain,
    default_config_path,
)
from pagewarden.config_file import (
    MAX_CONFIG_BYTES,
    example_config,
    load_config,
    parse_config,
)
from pagewarden.errors import ConfigurationInvalid
from pagewarden.runtime import PluginChoice
from pagewarden.values import Level

FILE = Path("/etc/pagewarden/pagewarden.toml")


def parse(text: str, path: Path = FILE) -> Configuration:
    """Parse a configuration."""
    return parse_config(text.encode(), path)


def mistake(text: str) -> ConfigurationInvalid:
    """Return the error that a configuration gives."""
    with pytest.raises(ConfigurationInvalid) as caught:
        parse(text)
    assert caught.value.message.startswith(str(FILE))
    assert caught.value.hint
    return caught.value


def test_the_example_is_valid_and_has_every_key() -> None:
    """Each key of each section stands in the example, in its own table."""
    parse(example_config())
    tables: dict[str, str] = {}
    for name, body in re.findall(r"^\[([a-z.]+)\](.*?)(?=^\[|\Z)", example_config(), re.DOTALL | re.MULTILINE):
        tables[re.sub(r"\.\w+", ".NAME", name)] = body
    assert set(tables) == set(SECTIONS)
    for table, section in SECTIONS.items():
        keys = set(re.findall(r"^(?:# )?(\w+) =", tables[table], re.MULTILINE))
        assert keys == set(section.__struct_fields__), table


def test_no_file_gives_the_defaults() -> None:
    """Without a file a path has the documented defaults."""
    settings = load_config(None).database("/srv/app.db")
    assert (settings.path, settings.name, settings.repository) == ("/srv/app.db", None, None)
    assert (settings.level, settings.checkers, settings.max_time) == (Level.STANDARD, (), None)
    assert (settings.check, settings.compression, settings.compare) == ("quick", 1, False)


def test_an_empty_file_is_the_defaults_too() -> None:
    """Nothing is required."""
    empty = parse("")
    assert empty.database("x.db").level is Level.STANDARD
    assert (empty.plugins, empty.source, empty.default_repository()) == (PluginChoice(), FILE, None)


def test_a_table_of_its_own_wins_over_the_defaults() -> None:
    """What a database does not say comes from [defaults]."""
    configuration = parse(
        """
        [defaults]
        level = "quick"
        compression = 9
        checkers = ["check-pragma"]
        max_time = 5
        check = "deep"
        compare = true
        assertions = ["SELECT 1"]
        repository = "main"
        [databases.app]
        path = "app.db"
        level = "deep"
        checkers = []
        [databases.other]
        path = "/srv/other.db"
        repository = "./elsewhere"
        name = "o"
        compression = 3
        max_time = 1.5
        compare = false
        assertions = []
        check = "none"
        [repositories.main]
        url = "../backup"
        """
    )
    app = configuration.database("app")
    assert app.path == "/etc/pagewarden/app.db"
    assert (app.level, app.checkers, app.max_time, app.check, app.compression) == (Level.DEEP, (), 5, "deep", 9)
    assert (app.compare, configuration.database("other").compare) == (True, False)
    assert (app.assertions, configuration.database("other").assertions) == (("SELECT 1",), ())
    assert app.repository == "/etc/pagewarden/../backup"
    other = configuration.database("other")
    assert (other.name, other.repository) == ("o", "/etc/pagewarden/elsewhere")
    assert (other.level, other.checkers) == (Level.QUICK, ("check-pragma",))
    assert (other.max_time, other.check, other.compression) == (1.5, "none", 3)


def test_a_path_finds_the_settings_of_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configured path, the same path through a link, and the name mean the same; `./name` is a file."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    configuration = parse('[databases.app]\npath = "real/app.db"\nlevel = "deep"\n', tmp_path / "pagewarden.toml")
    monkeypatch.chdir(tmp_path)
    for argument in ("app", "real/app.db", "./link/app.db", str(tmp_path / "real" / "app.db")):
        assert configuration.database(argument).level is Level.DEEP, argument
    assert configuration.database("./app").level is Level.STANDARD
    assert configuration.database("./app").path == str(tmp_path / "app")


def test_a_repository_is_a_name_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths become absolute: in the file from its folder, on the command line from the current one."""
    configuration = parse('[repositories.main]\nurl = "b"\ndb = "app.db"\nread_data = true\n')
    monkeypatch.chdir(tmp_path)
    main = configuration.repository("main")
    assert (main.url, main.db, main.read_data) == ("/etc/pagewarden/b", "app.db", True)
    assert configuration.repository("b").url == str(tmp_path / "b")
    assert configuration.repository("s3://bucket/x").url == "s3://bucket/x"
    assert configuration.repository("file:///backup").url == "file:///backup"


def test_the_default_repository_is_a_name_or_a_url() -> None:
    """A name brings its settings; a URL stands for itself."""
    named = parse('[defaults]\nrepository = "main"\n[repositories.main]\nurl = "/b"\ndb = "x"\n').default_repository()
    assert named is not None
    assert (named.url, named.db) == ("/b", "x")
    plain = parse('[defaults]\nrepository = "./b"\n').default_repository()
    assert plain is not None
    assert plain.url == "/etc/pagewarden/b"


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home folder; a user that does not exist stays as it was written."""
    monkeypatch.setenv("HOME", "/home/someone")
    assert absolute_url("~/b", Path("/x")) == "/home/someone/b"
    assert absolute_url("~no-such-user-here/b", Path("/x")) == "/x/~no-such-user-here/b"


@pytest.mark.parametrize(
    ("text", "names", "hint"),
    [
        ('[defaults]\nlevel = "fast"', "defaults.level", 'write "quick", "standard" or "deep"'),
        ('[defaults]\nlevl = "quick"', 'unknown key "levl" in [defaults]', 'did you mean "level"?'),
        ("[defaults]\nzzz = 1", "zzz", "known here: repository, level"),
        ("[defaults]\ncompression = 23", "defaults.compression", "1 to 22"),
        ("[defaults]\ncompression = '3'", "defaults.compression", "1 to 22"),
        ("[defaults]\nthreads = 0", "defaults.threads", "1 to 64"),
        ("[defaults]\nmax_time = 0", "defaults.max_time", "seconds above 0"),
        ("[defaults]\nmax_time = 2026-11-22T10:15:00", "defaults.max_time", "seconds above 0"),
        ("[defaults]\ncheckers = 'check-pragma'", "defaults.checkers", "a list of names"),
        ("[defaults]\nassertions = 'SELECT 1'", "defaults.assertions", "a list of statements"),
        ("[defaults]\ncheckers = [1]", "defaults.checkers[0]", "a list of names"),
        ("[defaults]\nrepository = 'main'", 'there is no repository "main"', "[repositories.main]"),
        ("[defaults]\nrepository = 'mian'\n[repositories.main]\nurl='/b'", '"mian"', 'did you mean "main"?'),
        ("[databases.app]\npath = '/a'\nrepository = 'x'", "databases.app.repository", "./x"),
        ("[databases.app]\nname = 'x'", "[databases.app] has no path", "config example"),
        ("[databases.app]\npath = ''", "databases.app.path", "a text in quotes"),
        ("[databases.app]\npath = '/a'\ncheck = 'some'", "databases.app.check", '"none"'),
        ("[databases]\napp = '/a'", "databases.app", "config example"),
        ("databases = 1", "databases", "config example"),
        ("[databases.'a b']\npath = '/a'", '"a b" is no name', "letters"),
        ("[repositories.main]\npath = '/a'", 'unknown key "path" in [repositories.main]', "known here: url"),
        ("[repositories.main]\nurl = '/a'\nread_data = 1", "repositories.main.read_data", "true or false"),
        ("[plugins]\nextra = 'x'", "plugins.extra", "a list of modules"),
        ("[output]\ncolor = 'no'", "output.color", "true or false"),
        ("[output]\nquiet = true\nverbose = true", "quiet and verbose exclude each other", "remove one"),
        ("[default]\nlevel = 'quick'", 'unknown key "default" at the top', 'did you mean "defaults"?'),
        ("level = 'quick'", 'unknown key "level" at the top', "known here: defaults, databases"),
        ("=", "is not TOML", "config example"),
        ("a = " + "[" * 5000, "is not TOML", "config example"),
    ],
)
def test_a_mistake_names_the_key_and_the_fix(text: str, names: str, hint: str) -> None:
    """Whoever made it knows what to type instead."""
    error = mistake(text)
    assert names in error.message
    assert hint in error.hint


def test_a_file_that_is_no_text_is_refused() -> None:
    """The place of the first wrong byte is named."""
    with pytest.raises(ConfigurationInvalid, match="not UTF-8 at byte 3"):
        parse_config(b"a=\n\xff", FILE)


def test_a_file_that_cannot_be_read_is_a_named_error(tmp_path: Path) -> None:
    """Missing, a folder, and far too large are told apart."""
    with pytest.raises(ConfigurationInvalid, match="there is no configuration") as missing:
        load_config(tmp_path / "none.toml")
    assert "config example" in missing.value.hint
    folder = tmp_path / "a folder"
    folder.mkdir()
    with pytest.raises(ConfigurationInvalid, match="cannot be read") as wrong:
        load_config(folder)
    assert wrong.value.hint == f"name the file in it: '{folder}/pagewarden.toml'"
    large = tmp_path / "large.toml"
    large.touch()
    os.truncate(large, MAX_CONFIG_BYTES + 1)
    with pytest.raises(ConfigurationInvalid, match="is no configuration") as other:
        load_config(large)
    assert other.value.hint == f"ls -l -- {large}"


def test_empty_text_is_neither_database_nor_repository() -> None:
    """It would mean the current folder."""
    configuration = load_config(None)
    with pytest.raises(ConfigurationInvalid, match="the database is empty"):
        configuration.database("")
    with pytest.raises(ConfigurationInvalid, match="the repository is empty"):
        configuration.repository("")


def test_the_default_place_is_xdgs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file there is read if it exists; a relative XDG_CONFIG_HOME is ignored, and so is the current folder."""
    monkeypatch.delenv("PAGEWARDEN_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pagewarden.toml").write_text("[plugins]\nextra = ['hostile']\n")
    assert default_config_path() is None
    for folder, setting in (("xdg", str(tmp_path / "xdg")), (".config", "relative")):
        monkeypatch.setenv("XDG_CONFIG_HOME", setting)
        place = tmp_path / folder / "pagewarden" / "pagewarden.toml"
        place.parent.mkdir(parents=True)
        place.touch()
        assert default_config_path() == place


def test_the_environment_names_a_file_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was named must exist when it is read; an empty name switches the default place off."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "pagewarden").mkdir()
    (tmp_path / "pagewarden" / "pagewarden.toml").touch()
    monkeypatch.setenv("PAGEWARDEN_CONFIG", "/nowhere/x.toml")
    assert default_config_path() == Path("/nowhere/x.toml")
    monkeypatch.setenv("PAGEWARDEN_CONFIG", "")
    assert default_config_path() is None


def test_a_configuration_as_plain_values_is_json() -> None:
    """--json can print how a file was understood."""
    plain = as_plain(parse('[databases.app]\npath = "a"\n[repositories.r]\nurl = "/r"\n[plugins]\nonly = ["x-y"]\n'))
    decoded = msgspec.json.decode(msgspec.json.encode(plain))
    assert decoded["file"] == str(FILE)
    assert decoded["databases"]["app"]["path"] == "/etc/pagewarden/a"
    assert decoded["repositories"]["r"]["url"] == "/r"
    assert decoded["plugins"]["only"] == ["x-y"]
    assert as_plain(load_config(None))["file"] is None


def test_retention_comes_from_the_nearest_table(tmp_path: Path) -> None:
    """A database's own rules stand in place of its repository's, and those in place of the general ones."""
    text = f"""
        [retention]
        last = 1
        [repositories.main]
        url = "{tmp_path}/main"
        retention = {{ daily = 7, grace = "1d" }}
        [databases.one]
        path = "{tmp_path}/one.db"
        repository = "main"
        [databases.two]
        path = "{tmp_path}/two.db"
        name = "second"
        repository = "main"
        [databases.two.retention]
        within = "4w"
        chain_ratio = 0.5
        [databases.elsewhere]
        path = "{tmp_path}/one.db"
        repository = "/other/repository"
        retention = {{ last = 9 }}
    """
    found = parse_config(text.encode(), tmp_path / "c.toml")
    assert found.retention_in(f"{tmp_path}/main") == (
        RetentionSettings(daily=7, grace="1d"),
        {"second": RetentionSettings(within="4w", chain_ratio=0.5)},
    )
    general = RetentionSettings(last=1)
    assert found.retention_in("/other/repository") == (general, {"one.db": RetentionSettings(last=9)})
    assert found.retention_in("/nowhere") == (general, {})


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[retention]\nlast = -1", r"retention\.last: ", "whole number"),
        ('[retention]\nwithin = "30 days"', r'retention\.within: "30 days" is no length of time', '"7d"'),
        ('[databases.a]\npath = "a"\n[databases.a.retention]\ngrace = "1y"', r"databases\.a\.retention\.grace", '"7d"'),
        ('[databases.a]\npath = "a"\nretention.dayly = 1', r'"dayly" in \[databases\.a\.retention\]', '"daily"'),
        ('[repositories.a]\nurl = "a"\nretention = 3', r"repositories\.a\.retention: expected", "config example"),
        ('[repositories.a]\nurl = "a"\nretention.chain_ratio = 0', r"a\.retention\.chain_ratio: ", "above 0"),
    ],
)
def test_a_mistake_in_a_retention_is_named(text: str, message: str, hint: str, tmp_path: Path) -> None:
    """Wherever the table stands, the message has the key, and the hint a right value."""
    with pytest.raises(ConfigurationInvalid, match=message) as caught:
        parse_config(text.encode(), tmp_path / "c.toml")
    assert hint in caught.value.hint
