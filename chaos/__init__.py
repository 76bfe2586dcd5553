"""Chaos on real processes: what is killed, cut, slowed and lied to, and what must hold anyway."""
