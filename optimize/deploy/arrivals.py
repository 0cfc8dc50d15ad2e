"""Requests per second as vLLM's own metrics tell them, in PromQL.

vLLM counts requests when they end, so a saturated engine shows its own throughput, however many arrive. What has ended
and the growth of what is in the engine make up what has arrived, except for requests that their clients give up.
"""

from __future__ import annotations

ENDED = "vllm:request_success_total"
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"


def arrivals_expr(window: str, selector: str = "", by: str = "") -> str:
    """Arrivals per second, averaged over a window.

    Args:
        window: Length of the window in Prometheus' notation.
        selector: Matchers of labels, in braces; empty for all series.
        by: Labels that tell sums apart; empty for one sum.
    """
    total = f"sum by ({by})" if by else "sum"
    return " + ".join(
        f"{total} ({function}({metric}{selector}[{window}]))"
        for function, metric in (("rate", ENDED), ("deriv", RUNNING), ("deriv", WAITING))
    )


def demand_expr(window: str, selector: str, work_off: float) -> str:
    """Arrivals per second, and the rate at which waiting requests are worked off within `work_off` seconds."""
    return f"{arrivals_expr(window, selector)} + sum ({WAITING}{selector}) / {work_off:g}"
