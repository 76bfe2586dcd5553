"""Tidegate: just-in-time cloud access that provably ends."""

__version__ = "0.1.0"
