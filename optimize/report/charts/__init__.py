"""The report's figures: drawn once, written as SVG within the page, as SVG files and as PNG files."""
