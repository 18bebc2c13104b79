"""The live dashboard: one page that a headless robot serves, `m2h-run --web`. It never holds the loop up."""

from m2h_runtime.web.address import Address, parse_address
from m2h_runtime.web.dashboard import Dashboard

__all__ = ["Address", "Dashboard", "parse_address"]
