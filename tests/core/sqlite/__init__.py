"""Tests of pagewarden.sqlite."""
