"""The connectors, against the simulated cloud and a real emulator process."""
