"""Exchange with annotation tools: labelling configurations, and tasks with predictions."""
