"""The rims: API, command line, worker, identity. Each parses, makes one flow call, and renders."""
