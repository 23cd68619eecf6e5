"""Parameters that stay as they are in training, by name."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _core
from ..internal.arguments import explained
from ..internal.checks import shown

__all__ = ["Freezing"]


@explained
class Freezing(_core.Network):
    """A network whose parameters can be kept from training; a part of `Sequential`."""

    def freeze(self, *prefixes: str) -> None:
        """Keep parameters as they are in training: gradients are still computed, the optimiser leaves them alone.

        Parameters
        ----------
        *prefixes : str
            Layers by name ("head") or number ("layers.0"), or single parameters ("head.bias", "layers.0.bias").
            BatchNorm's running averages are no parameters.

        Raises
        ------
        ValueError
            If a name belongs to no parameter, or there is none; nothing is frozen then.
        """
        if not prefixes:
            raise ValueError(
                "prefixes: got no names; expected layers or parameters (all of them: freeze(*model.parameters()))"
            )
        self.set_all_frozen(prefixes, True)

    def unfreeze(self, *prefixes: str) -> None:
        """Let frozen parameters be trained again; without names, all of them.

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
        """Freeze or unfreeze what `prefixes` name, which may be nothing; all or nothing."""
        names = list(self.parameters())
        for prefix in prefixes:
            if not isinstance(prefix, str) or set(names).isdisjoint(self._meant(prefix)):
                raise ValueError(f"prefixes: got {shown(prefix)}; expected a layer or a parameter: {shown(names, 300)}")
        for prefix in prefixes:
            self.set_frozen(prefix, frozen)
