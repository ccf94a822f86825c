from __future__ import annotations

import os
from pathlib import Path

import pytest

from pagewarden.contracts import TargetFactory
from pagewarden.errors import ConfigurationInvalid, TargetFailed
from pagewarden.plugins import load_plugins
from pagewarden_target_directory import DirectoryFactory, DirectoryTarget, pagewarden_targets


def root(url: str, *, create: bool = False) -> Path:
    """Return the directory that a URL opens."""
    target = DirectoryFactory().open(url, create=create)
    assert isinstance(target, DirectoryTarget)
    assert target.url == url
    return target.root


def test_the_plugin_registers_the_factory() -> None:
    """The installed plugin opens plain paths and file URLs."""
    (factory,) = pagewarden_targets()
    assert isinstance(factory, TargetFactory)
    assert (factory.name, factory.schemes) == ("target-directory", ("", "file"))
    assert "target-directory" in [each.name for each in load_plugins(only=("target-directory",)).targets]


@pytest.mark.parametrize("prefix", ["", "file://", "file:", "FILE://", "file://localhost"])
def test_a_path_and_its_urls_open_the_same_directory(tmp_path: Path, prefix: str) -> None:
    """RFC 8089's forms for this host, and the plain path."""
    assert root(f"{prefix}{tmp_path}") == tmp_path


def test_escapes_are_of_urls_only(tmp_path: Path) -> None:
    """A URL's %20 is a space, a plain path's is %20; bytes that are no UTF-8 survive."""
    for name in ("a b", "a%20b", "a#b", "\udcff"):
        (tmp_path / name).mkdir()
    assert root(f"file://{tmp_path}/a%20b").name == "a b"
    assert root(f"{tmp_path}/a%20b").name == "a%20b"
    assert root(f"{tmp_path}/a#b").name == "a#b"
    assert root(f"file://{tmp_path}/a%23b").name == "a#b"
    assert os.fsencode(root(f"file://{tmp_path}/%ff").name) == b"\xff"


def test_a_relative_path_and_a_link_become_the_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real path counts, so that changing the directory or the link later changes nothing."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert root("real") == root("link") == root("./real/../link") == tmp_path / "real"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file://host/backups", "another host, host"),
        ("file://host:80/backups", "another host"),
        ("file:backups", "no absolute path"),
        ("file:///backups?x=1", "no absolute path"),
        ("file:///backups#x", "no absolute path"),
        ("", "no path"),
        ("a\0b", "no path"),
        ("file:///a%00b", "no path"),
    ],
)
def test_what_names_no_directory_here_is_refused(url: str, words: str) -> None:
    """Another host, a relative URL and a path that cannot be are configuration errors with a hint."""
    with pytest.raises(ConfigurationInvalid, match=words) as caught:
        DirectoryFactory().open(url, create=True)
    assert caught.value.hint


def test_a_missing_directory_is_made_only_when_asked(tmp_path: Path) -> None:
    """Without `create` nothing is made; with it the path and what is missing above it are."""
    with pytest.raises(FileNotFoundError):
        DirectoryFactory().open(str(tmp_path / "a/b"), create=False)
    assert list(tmp_path.iterdir()) == []
    assert root(str(tmp_path / "a/b"), create=True).is_dir()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """A file in the place is refused, and one above it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationInvalid, match="not a directory"):
        DirectoryFactory().open(str(tmp_path / "file"), create=True)
    with pytest.raises(TargetFailed, match="cannot open"):
        DirectoryFactory().open(str(tmp_path / "file/below"), create=True)


@pytest.mark.parametrize("name", ["My Documents/letter.txt", "notes~", "ä", "deep/er/a b"])
def test_somebody_elses_directory_is_not_made_a_repository(tmp_path: Path, name: str) -> None:
    """Files whose names no repository would have are found however deep, and named."""
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigurationInvalid, match="holds other files"):
        DirectoryFactory().open(str(tmp_path), create=True)
    assert root(str(tmp_path), create=False) == tmp_path


def test_a_directory_of_links_is_somebody_elses(tmp_path: Path) -> None:
    """A symbolic link is nothing that a repository would hold."""
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigurationInvalid, match="link"):
        DirectoryFactory().open(str(tmp_path), create=True)


def test_a_repository_without_its_staging_folder_opens(tmp_path: Path) -> None:
    """A copy of a repository that lost its empty folder on the way is still ours."""
    (tmp_path / "app.db/manifests").mkdir(parents=True)
    (tmp_path / "app.db/manifests/0000000000000001.json").write_bytes(b"")
    assert root(str(tmp_path), create=True) == tmp_path
