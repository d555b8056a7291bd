"""Weather: what V2 asks for, the adapter that asks, and the provider process that answers."""
