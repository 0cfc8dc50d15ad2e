"""One configuration served under supervision: restarted when it fails, limited before it overloads."""
