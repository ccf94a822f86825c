"""Keeps SQLite databases whole."""
