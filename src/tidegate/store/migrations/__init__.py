"""The chain of schema versions, run by `store.migrate` and never by hand."""
