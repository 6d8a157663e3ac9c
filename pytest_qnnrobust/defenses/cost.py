"""What a defence costs on a microcontroller, counted, not measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Per inference: `operations` (additions, multiplications, shifts, comparisons, table lookups),
    `ram_bytes` beside the input tensor, which is changed in place, and `flash_bytes` of tables.
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
