"""The driver of a study: asks the search, has trials run, records what became of them, until the budget is spent."""
