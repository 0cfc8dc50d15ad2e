"""`python -m tests.optimize.driver.without_pictures OVERRIDES`: the command of a study, without a report's pictures.

They take a quarter of so small a study's time; `tests/optimize/report/test_page.py` tests them.
"""

from __future__ import annotations

from optimize.__main__ import main
from optimize.report.charts import png

if __name__ == "__main__":
    png.write_png = lambda drawing, path: path
    main()
