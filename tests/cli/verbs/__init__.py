"""Tests of the verbs, one module per verb."""
