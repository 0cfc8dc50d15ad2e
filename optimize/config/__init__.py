"""The configuration: its schema, composing it with Hydra, checking it, and building what it names."""
