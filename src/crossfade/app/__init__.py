"""What people and programs touch: plan files, settings, API, CLI, demo."""
