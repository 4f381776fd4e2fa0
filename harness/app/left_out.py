"""``recipe=none``: an option that changes nothing, in every group of which none is chosen by default.

No file holds it. A file would be one more option for ``recipe=glob(*)``, and a second arm for the same runs.
"""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from harness.runs.presets import NONE, PRESETS

SCHEME = "nothing"
OPTIONS = frozenset(f"{group}/{NONE}" for group in PRESETS)


class NothingSource(ConfigSource):
    """A place of the configuration search path that holds the empty option of every group in ``PRESETS``."""

    @staticmethod
    def scheme() -> str:
        """The word before ``://`` in the search path."""
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """An empty configuration; the package keeps Hydra from making an empty node ``recipe``."""
        return ConfigResult(
            provider=self.provider, path=f"{SCHEME}://", config=OmegaConf.create(), header={"package": "_global_"}
        )

    def available(self) -> bool:
        """Always."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Never, so that ``glob(*)`` does not list the options."""
        return False

    def is_config(self, config_path: str) -> bool:
        """Whether the path is one of the options."""
        return config_path.removesuffix(".yaml") in OPTIONS

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Nothing."""
        return []


class NothingPath(SearchPathPlugin):
    """Appends :class:`NothingSource`, which is found before a user's ``none.yaml``; a job refuses that file."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra when it starts."""
        search_path.append(provider="harness-presets", path=f"{SCHEME}://")


def register() -> None:
    """Makes the options known to Hydra."""
    Plugins.instance().register(NothingSource)
    Plugins.instance().register(NothingPath)
