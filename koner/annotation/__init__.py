"""Exchange with annotation tools: configurations, and tasks with predictions; and the agreement of annotators."""
