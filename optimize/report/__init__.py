"""The report of a study: recommendation, tables, figures and the page."""
