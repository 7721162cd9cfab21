"""A web server over run files, and the page that it serves; it reads runs and computes nothing."""

from eigenscope.dashboard.app import create_app
from eigenscope.dashboard.server import Server, serve

__all__ = ["Server", "create_app", "serve"]
