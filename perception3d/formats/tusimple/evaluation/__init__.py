"""TuSimple's accuracy by the rules of its official tool: of result files, and in mmengine's test loop."""
