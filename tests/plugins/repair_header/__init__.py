"""Tests of repair-header."""
