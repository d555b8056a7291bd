"""The parts of the control API: who asks, what is answered, and in which form."""
