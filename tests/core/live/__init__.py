"""Tests of pagewarden.live."""
