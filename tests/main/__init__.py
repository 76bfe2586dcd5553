"""Settings, `init`, `check`, and what a running process keeps."""
