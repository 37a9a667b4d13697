"""The dashboard: studies, fronts and networks in the browser. It only reads."""

from bitfront.dashboard.app import create_app
from bitfront.dashboard.server import ServerError, address_of, bind, serve

__all__ = ["ServerError", "address_of", "bind", "create_app", "serve"]
