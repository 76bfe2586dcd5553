"""What we do: one function a use case, the only rooms with effects, all through ports."""
