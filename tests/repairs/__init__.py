"""Seeded injuries of real and made databases, repaired, and held against what was there right before."""
