"""The clouds: one port, one file a cloud, and a simulated one that ships."""
