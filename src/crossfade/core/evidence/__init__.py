"""What the ticks add up to: sums, e-processes, sequences, forecasts."""
