"""Places, things and traffic."""
