"""Cost of a defence on a microcontroller, counted, not measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Cost of one inference.

    `operations` counts additions, multiplications, shifts, comparisons and table lookups;
    `ram_bytes` are those beside the input tensor, which is changed in place; `flash_bytes` those of
    tables. A sum adds operations and flash, and takes the larger RAM: steps run one after another.
    """

    operations: int = 0
    ram_bytes: int = 0
    flash_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.operations + other.operations,
            max(self.ram_bytes, other.ram_bytes),
            self.flash_bytes + other.flash_bytes,
        )

    def __str__(self) -> str:
        return (
            f"{self.operations:,} operations, {self.ram_bytes:,} bytes of RAM, "
            f"{self.flash_bytes:,} bytes of flash"
        )
