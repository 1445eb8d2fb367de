"""Apps, their inputs and outputs."""

from infsh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup, Metadata

__all__ = ["BaseApp", "BaseAppInput", "BaseAppOutput", "BaseAppSetup", "Metadata"]
