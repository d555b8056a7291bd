"""What is tried before the first user, and the verdicts on it."""
