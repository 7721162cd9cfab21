"""The evidence for the actions, one item a file: `run(seeds)` measures, `tell(result)` says it in lines."""
