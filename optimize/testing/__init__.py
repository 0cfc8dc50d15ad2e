"""Stand-ins for tests, benchmarks and extenders: instant workers, made-up studies, a stub server and engine."""
