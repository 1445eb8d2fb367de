"""Errors of servers."""

from inferencesh.errors import APIError, RequirementError, RequirementsNotMetError, SetupAction

__all__ = ["APIError", "RequirementError", "RequirementsNotMetError", "SetupAction"]
