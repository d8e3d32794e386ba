"""CULane's scores by the rules of its official tool: of result files, and in mmengine's test loop."""
