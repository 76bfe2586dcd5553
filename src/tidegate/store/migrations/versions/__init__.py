"""One file a schema version. A published one is never edited: the next one mends it."""
