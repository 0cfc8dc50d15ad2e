"""From a valid configuration to the parts of a study."""

from optimize.plan.builder import make_plan
from optimize.plan.plan import Plan, content_of

__all__ = ["Plan", "content_of", "make_plan"]
