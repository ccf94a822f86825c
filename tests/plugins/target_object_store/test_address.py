"""URLs and credentials of object stores."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pagewarden.errors import ConfigurationInvalid, PluginUnusable, TargetFailed
from pagewarden_target_object_store import ObjectStoreFactory, pagewarden_targets
from pagewarden_target_object_store.address import Address, parse_address
from tests.support.stores import KEY, SECRET

pytestmark = pytest.mark.xdist_group("stores")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("s3://bucket", Address(scheme="s3", bucket="bucket")),
        ("S3://my.bucket-1/a/b=c/", Address(scheme="s3", bucket="my.bucket-1", prefix="a/b=c")),
        ("gs://bucket/p?only_writer=no", Address(scheme="gs", bucket="bucket", prefix="p")),
        ("az://container?account=mine", Address(scheme="az", bucket="container", account="mine")),
        (
            "s3://b12/p?endpoint=https://minio.example:9000/&region=eu-1&profile=me&virtual_hosted=yes&only_writer=TRUE"
            "&retries=0&timeout=0.5",
            Address(
                scheme="s3",
                bucket="b12",
                prefix="p",
                endpoint="https://minio.example:9000",
                region="eu-1",
                profile="me",
                virtual_hosted=True,
                only_writer=True,
                retries=0,
                timeout=0.5,
            ),
        ),
    ],
)
def test_what_a_url_says(url: str, address: Address) -> None:
    """Bucket, prefix and options."""
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://", "names a bucket"),
        ("az:///prefix", "names a container"),
        ("s3://bucket#part", "names a bucket"),
        ("s3://bucket:9000/p", "names a bucket"),
        ("s3://[bucket/p", "cannot be read"),
        ("s3://bucket/a//b", "prefix"),
        ("s3://bucket/../b", "prefix"),
        ("s3://bucket/a b", "prefix"),
        ("s3://bucket?endpoint", "cannot be read"),
        ("s3://bucket?endpoint=minio:9000", "is no http:// or https:// URL"),
        ("s3://bucket?endpoint=https://u:p@minio", "is no http:// or https:// URL"),
        ("s3://bucket?region=eu/1", "is no name"),
        ("s3://bucket?only_writer=perhaps", "neither yes nor no"),
        ("s3://bucket?retries=-1", "is no number from 0 to 99"),
        ("s3://bucket?timeout=0", "is no number of seconds"),
        ("s3://bucket?timeout=1e9", "is no number of seconds"),
        ("s3://bucket?account=mine", 'has no option "account"'),
        ("gs://bucket?endpoint=https://x", 'has no option "endpoint"'),
        ("s3://bucket?region=a&region=b", "twice"),
    ],
)
def test_what_is_no_url_is_refused(url: str, said: str) -> None:
    """With a hint how to write it."""
    with pytest.raises(ConfigurationInvalid, match=said) as caught:
        parse_address(url)
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        f"s3://{KEY}:{SECRET}@bucket/p",
        f"s3://bucket/p?secret_access_key={SECRET}",
        f"s3://bucket/p?access_key_id={KEY}&secret_access_key={SECRET}",
        f"s3://bucket/p?endpoint=https://{KEY}:{SECRET}@minio",
        f"s3://bucket/p@{SECRET}",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    """URLs are printed everywhere."""
    with pytest.raises(ConfigurationInvalid) as caught:
        ObjectStoreFactory().open(url, create=True)
    shown = f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
    assert SECRET not in shown
    assert KEY not in shown


def test_it_registers_its_schemes() -> None:
    """As the contract of factories has it."""
    (factory,) = pagewarden_targets()
    assert (factory.name, factory.schemes) == ("target-object-store", ("s3", "gs", "az"))


@pytest.mark.parametrize(
    "url", ["s3://bucket/p?virtual_hosted=yes&endpoint=https://bucket.example", "az://box?account=me"]
)
def test_opening_sends_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a plan can name a repository that is out of reach."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    assert ObjectStoreFactory().open(url, create=False).url == url


def test_google_is_opened_with_a_service_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And what is no key of one is refused with the store's name."""
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    assert ObjectStoreFactory().open("gs://bucket/p", create=False).url == "gs://bucket/p"
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "missing.json"))
    with pytest.raises(ConfigurationInvalid, match="the bucket bucket cannot be connected to"):
        ObjectStoreFactory().open("gs://bucket/p", create=False)


def test_no_credentials_are_said_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before minutes are spent on asking a metadata service that is not there."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TargetFailed, match="there are no credentials for the bucket bucket") as caught:
        ObjectStoreFactory().open("s3://bucket/p", create=False)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    ObjectStoreFactory().open("s3://bucket/p", create=False)


def test_a_metadata_service_without_credentials_is_said_so(
    monkeypatch: pytest.MonkeyPatch, moto: str, bucket: str
) -> None:
    """One that answers, but has none."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"{moto}/nothing")
    target = ObjectStoreFactory().open(f"s3://{bucket}/p?endpoint={moto}&retries=0", create=False)
    with pytest.raises(TargetFailed, match="there are no credentials"):
        target.get("a")


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials in ~/.aws alone."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "home/.aws").mkdir(parents=True, exist_ok=True)
    keys = f"aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    (tmp_path / "home/.aws/credentials").write_text(f"[default]\n{keys}[other]\n{keys}")


@pytest.mark.usefixtures("profile")
@pytest.mark.parametrize("option", ["", "&profile=other"])
def test_profiles_are_read_by_boto3(moto: str, bucket: str, option: str) -> None:
    """The default one where the environment has nothing, another one where it is named."""
    target = ObjectStoreFactory().open(f"s3://{bucket}/p?endpoint={moto}{option}", create=True)
    target.put("key", b"data")
    assert target.get("key") == b"data"


@pytest.mark.usefixtures("profile")
def test_a_profile_that_is_not_there_is_named() -> None:
    """With what shows those that are."""
    with pytest.raises(ConfigurationInvalid, match=r"the profile nobody of ~/\.aws cannot be used: ProfileNotFound"):
        ObjectStoreFactory().open("s3://bucket/p?profile=nobody", create=True)


@pytest.mark.usefixtures("profile")
def test_without_boto3_a_profile_is_an_error_and_files_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names a profile counts on it; that ~/.aws is there may have other reasons."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(PluginUnusable, match=r"the profile other of ~/\.aws is read by boto3") as caught:
        ObjectStoreFactory().open("s3://bucket/p?profile=other", create=True)
    assert "[profiles]" in caught.value.hint
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TargetFailed, match="there are no credentials"):
        ObjectStoreFactory().open("s3://bucket/p", create=True)


@pytest.mark.usefixtures("profile")
def test_files_without_credentials_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A configuration may name a region alone."""
    (tmp_path / "home/.aws/credentials").unlink()
    (tmp_path / "home/.aws/config").write_text("[default]\nregion = eu-central-1\n")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(TargetFailed, match="there are no credentials"):
        ObjectStoreFactory().open("s3://bucket/p", create=True)
