"""EleutherAI's lm-evaluation-harness, in a process of its own, and the tasks that come with this project."""
