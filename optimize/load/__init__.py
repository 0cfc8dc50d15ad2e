"""The load: when requests are due, how they are sent, and what is recorded of each."""
