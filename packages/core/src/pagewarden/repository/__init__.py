"""Repositories: page sets, manifests, restore points and their verification; targets are known by contract only."""
