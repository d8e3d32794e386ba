"""JRDB's detection score as its toolkit computes it, of result files and in mmengine's test loop."""
