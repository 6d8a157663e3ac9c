"""Options: the values that the command line and the ini file ask for."""

from pytest_qnnrobust.options.declarations import OPTIONS, Options, names_that_matter_for
from pytest_qnnrobust.options.resolve import (
    INCONCLUSIVE,
    add_options,
    flags_about_a_gate,
    from_command,
    from_config,
    from_json,
    starts_by_flag,
)

__all__ = [
    "INCONCLUSIVE",
    "OPTIONS",
    "Options",
    "add_options",
    "flags_about_a_gate",
    "from_command",
    "from_config",
    "from_json",
    "names_that_matter_for",
    "starts_by_flag",
]
