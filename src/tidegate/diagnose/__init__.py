"""Read-only reasoning over evidence and health: what happened, where it stops, what is true now."""
