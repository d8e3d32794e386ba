"""SemanticKITTI's scores: of result files by the official rules, and in mmengine's test loop."""
