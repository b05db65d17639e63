"""Configuration: a TOML file, the environment and the command line become one checked, frozen `Config`.

Every part of the gateway is handed its own small settings (`Config.proxy_settings`, `Config.fleet_settings`).
"""

from gateway.config.load import load
from gateway.config.schema import Config
from gateway.config.write import write

__all__ = ["Config", "load", "write"]
