"""Tests of pagewarden.wal."""
