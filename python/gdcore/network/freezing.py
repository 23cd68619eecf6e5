"""Frozen parameters, which training does not change, by name."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _core
from ..internal.arguments import explained
from ..internal.checks import shown

__all__ = ["Freezing"]


@explained
class Freezing(_core.Network):
    """A network whose parameters can be frozen; a base of `Sequential`."""

    def freeze(self, *prefixes: str) -> None:
        """Freeze parameters: gradients are still computed, but the optimiser does not change the parameters.

        Parameters
        ----------
        *prefixes : str
            Layers by name ("head") or number ("layers.0"), or single parameters ("head.bias", "layers.0.bias").
            BatchNorm's running averages are not parameters.

        Raises
        ------
        ValueError
            If a name belongs to no parameter, or no name is given; nothing is frozen then.
        """
        if not prefixes:
            raise ValueError(
                "prefixes: got no names; expected layers or parameters (all of them: freeze(*model.parameters()))"
            )
        self.set_all_frozen(prefixes, True)

    def unfreeze(self, *prefixes: str) -> None:
        """Make frozen parameters trainable again; without names, all of them.

        Parameters
        ----------
        *prefixes : str
            Layers or single parameters, as in `freeze`.

        Raises
        ------
        ValueError
            If a name belongs to no parameter; nothing is changed then.
        """
        self.set_all_frozen(prefixes or tuple(self.frozen()), False)

    def set_all_frozen(self, prefixes: Sequence[str], frozen: bool) -> None:
        """Freeze or unfreeze the parameters named by `prefixes`, possibly none; if one is invalid, change nothing."""
        names = list(self.parameters())
        for prefix in prefixes:
            if not isinstance(prefix, str) or set(names).isdisjoint(self._matching(prefix)):
                raise ValueError(f"prefixes: got {shown(prefix)}; expected a layer or a parameter: {shown(names, 300)}")
        for prefix in prefixes:
            self.set_frozen(prefix, frozen)
