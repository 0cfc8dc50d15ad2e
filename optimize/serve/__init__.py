"""A configuration served under supervision: restarted when it dies, limited where it would break."""
