"""Prompts that look like traffic: conversations, documents and completions, with lengths drawn from published figures.

All texts were written for this project and lie in `texts/`; `python -m demo.traffic` combines them, always to the same
bytes. What is measured with these workloads is speed and memory: they hold no reference answers.
"""
