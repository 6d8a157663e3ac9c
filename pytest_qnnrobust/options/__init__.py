"""What the command line and the ini file ask for."""

from pytest_qnnrobust.options.flags import OPTIONS
from pytest_qnnrobust.options.resolve import (
    INCONCLUSIVE,
    Options,
    add_options,
    from_command,
    from_config,
    from_json,
)

__all__ = [
    "INCONCLUSIVE",
    "OPTIONS",
    "Options",
    "add_options",
    "from_command",
    "from_config",
    "from_json",
]
