"""Clients: the applications and partners that call the API, and the people behind them."""
