"""A study in its storage: opened, resumed, read back, confirmed, shared by several drivers."""
