"""STCrowd's scores, of result files and in mmengine's test loop; what they are: `evaluation.crowd_scores`."""
