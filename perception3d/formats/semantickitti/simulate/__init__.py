"""The built-in world in SemanticKITTI's format."""
