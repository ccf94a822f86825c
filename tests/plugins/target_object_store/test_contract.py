"""The contract of targets, held by object stores over the network."""

from __future__ import annotations

import pytest

from pagewarden.contracts import BulkTarget, RemoteTarget, Target
from pagewarden.testing.contracts import TargetContract
from pagewarden_target_object_store import ObjectStoreFactory

pytestmark = pytest.mark.xdist_group("stores")  # one worker starts the servers


class TestS3(TargetContract):
    """A store that honours conditional puts."""

    @pytest.fixture
    def target(self, url: str) -> Target:
        """An empty target."""
        return ObjectStoreFactory().open(url, create=True)

    def test_it_can_do_more(self, target: Target) -> None:
        """It reads many objects at once, and can be probed."""
        assert isinstance(target, BulkTarget)
        assert isinstance(target, RemoteTarget)


class TestOnlyWriter(TargetContract):
    """A store that ignores them and knows no ranges, whose owner says that nobody else writes there."""

    @pytest.fixture
    def target(self, careless_url: str) -> Target:
        """An empty target."""
        return ObjectStoreFactory().open(f"{careless_url}&only_writer=yes", create=True)

    def test_of_many_puts_at_once_one_wins(self, target: Target) -> None:
        """That is what the owner answers for; of puts one after the other the first wins all the same."""
        target.put("contested", b"first")
        with pytest.raises(FileExistsError):
            target.put("contested", b"second")
        assert target.get("contested") == b"first"
