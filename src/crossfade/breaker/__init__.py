"""The circuit breaker, a library of its own."""
