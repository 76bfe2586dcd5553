"""The HTTP API: parse, one flow call, render. Bearer tokens only, JSON only.

Decides nothing about access. `main` makes the app with `make_app` and runs it with `serve`; the
command line is its first client.
"""

from tidegate.shell.api.app import make_app
from tidegate.shell.api.insight import Insight
from tidegate.shell.api.serving import serve

__all__ = ["Insight", "make_app", "serve"]
