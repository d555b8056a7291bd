"""What is tried before the first user: scenarios against the running services."""
