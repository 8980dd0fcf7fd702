"""How far a value may be off, in units of what float32 costs at its layer.

Own error (the layer alone, on the source's input): 4 times. Inherited error
(the whole net): 16 times, since faithful nets were seen at 5.8 in the RMS and
7.6 at the maximum on small images. A run with oneDNN's kernels, which sum in
another order: twice the own limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from converters.errors import ConversionError

__all__ = ["HALF", "INHERITED_HALF", "ONEDNN", "Limits", "Tolerance"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the error's RMS in units of the rounding's, and of the largest error in units of its."""

    rms: float
    peak: float


OWN = Limits(4.0, 6.0)
INHERITED = Limits(16.0, 16.0)
#: Of the own limits, where oneDNN's kernels may have run.
ONEDNN = 2.0
#: For a file in float16. Its layers are fed what float16 can hold, whose few bits NumPy's float32
#: adds up nearly without error: the own limits are twice as wide (seen: 3.3 at preL2, 1 elsewhere).
#: The oracle rounds at the same places as the file, so what is inherited stays near 1 (seen: 2.4).
HALF, INHERITED_HALF = 2.0, Limits(6.0, 6.0)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The limits of a comparison.

    atol    |d| that is allowed in every layer; rtol: in units of the layer's largest value.
    layers  a layer's own limit, in roundings; 4 times that for the inherited error.
    factor  of the own limits: `ONEDNN` for a run with its kernels.
    loose   L2 of a descriptor up to which a known cause outside the net excuses, see
            `loose_gate`; 0: never.
    whole   the limits of the inherited error.
    """

    atol: float = 0.0
    rtol: float = 0.0
    layers: Mapping[str, float] = field(default_factory=dict)
    factor: float = 1.0
    loose: float = 5e-3
    whole: Limits = INHERITED

    @classmethod
    def parse(cls, layers: Sequence[str], atol: float = 0.0, rtol: float = 0.0) -> Tolerance:
        """From the command line's `NAME:VALUE`; a name may hold a colon itself.

        Raises `ConversionError` for a text that is not of that form.
        """
        found = {}
        for text in layers:
            name, _, value = text.rpartition(":")
            try:
                found[name] = float(value)
            except ValueError:
                found[name] = -1.0
            if not name or found[name] <= 0:
                raise ConversionError(
                    f"{text!r} is not NAME:VALUE", advice="such as conv5_3:8 or vlad:core:20"
                )
        return cls(atol, rtol, found)

    def own(self, layer: str) -> Limits:
        """Of the layer replayed alone."""
        if layer in self.layers:
            return Limits(self.layers[layer], self.layers[layer])
        return Limits(OWN.rms * self.factor, OWN.peak * self.factor)

    def inherited(self, layer: str) -> Limits:
        """Of the layer in the whole net's run."""
        if layer in self.layers:
            return Limits(4 * self.layers[layer], 4 * self.layers[layer])
        return self.whole

    def widened(self, limits: Limits, largest: float, rounding: float, peak: float) -> Limits:
        """`limits` with what `atol` and `rtol` allow at a layer of this scale."""
        allowed = max(self.atol, self.rtol * largest)
        if not allowed or not rounding or not peak:
            return limits
        return Limits(max(limits.rms, allowed / rounding), max(limits.peak, allowed / peak))
