"""Traffic, users and defects as seeded models that drive the core without sockets."""
