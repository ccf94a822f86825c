"""Tests of the processes beside the caller's."""
