"""The imperative shell: it carries out what the core decides."""
