"""What a load asks, when, and what came of it: values and sums, without clock or socket."""
