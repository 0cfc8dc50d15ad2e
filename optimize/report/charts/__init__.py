"""The report's figures: drawn once, written as SVG within the page and as SVG and PNG files."""
