"""A study in one file: written without what names its machine or quotes its prompts, and read without trusting it."""
